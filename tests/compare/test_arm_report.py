"""The report from made-up results: figures, tables, curves, what is written."""

import json
import pathlib

import pytest

from vit_jax_xfer.compare import arm_report
from vit_jax_xfer.compare.arm_attention import Distance
from vit_jax_xfer.compare.arm_report import (
    ReportTexts,
    arm_figures,
    curves,
    distance_table,
    summary_table,
    times,
    write_report,
)
from vit_jax_xfer.compare.arms import Arm, parse_arms
from vit_jax_xfer.compare.comparison import ComparedImages, Comparison

TOP1 = {"scratch": (0.2, 0.4), "finetune": (0.7, 0.9), "distill": (0.6, 0.6), "ensemble": (0.95,)}
ARMS = parse_arms(",".join(TOP1))


def made_up(top1=TOP1):
    def result(seed, value, seconds):
        metrics = {"top1": value, "loss": 1.0}
        return {"seed": seed, "step": 8, "seconds": seconds, "metrics": metrics}

    seconds = {"ensemble": 0.0}
    return {
        Arm(name): [
            result(seed, value, seconds.get(name, 10.0 + seed)) for seed, value in enumerate(values)
        ]
        for name, values in top1.items()
    }


def comparison(root: pathlib.Path, seeds=2):
    return Comparison(root, ARMS, seeds, ComparedImages("digits", 3), "mae/model", 8)


def write_rows(root: pathlib.Path) -> None:
    """metrics.jsonl of every run: a loss that halves, that of the labels beside a teacher's."""
    for arm, runs in made_up().items():
        for run in runs:
            folder = arm.folder(root, run["seed"])
            folder.mkdir(parents=True)
            rows = []
            for step in (0, 4):
                values = {"loss": 2.0 / (1 + step), "top1": 0.1 * step}
                if arm.name == "distill":
                    values |= {"label_loss": 1.0 / (1 + step)}
                rows.append({"step": step, "time": 0.0, "kind": "train", "values": values})
            last = {"loss": 9.0, "top1": run["metrics"]["top1"]}
            rows.append({"step": 8, "time": 0.0, "kind": "eval", "values": last})
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "metrics.jsonl").write_text(text)


def test_figures_are_means_deviations_and_shares_of_the_gap():
    found = arm_figures({**made_up(), Arm("copy"): []})
    assert list(found) == [Arm(name) for name in TOP1]
    scratch, finetune, distill, ensemble = found.values()
    assert (scratch.mean, finetune.mean) == (pytest.approx(0.3), pytest.approx(0.8))
    assert scratch.deviation == pytest.approx(0.2 / 2**0.5) and ensemble.deviation is None
    assert [one.gap_closed for one in found.values()] == pytest.approx([0, 1, 0.6, 1.3])
    assert distill.seconds == 10.5 and distill.top1 == (0.6, 0.6)


@pytest.mark.parametrize("without", ["scratch", "finetune"])
def test_without_its_ends_there_is_no_gap(without):
    left = {name: values for name, values in TOP1.items() if name != without}
    assert all(one.gap_closed is None for one in arm_figures(made_up(left)).values())
    for tuned in (0.4, 0.5, 0.5 + 1e-16, 0.5005):
        same = {"scratch": (0.5,), "finetune": (tuned,), "copy": (0.9,)}
        assert all(one.gap_closed is None for one in arm_figures(made_up(same)).values())


def test_the_table_says_them():
    rows = summary_table(arm_figures(made_up()))
    assert rows[0] == "| | top-1 % | gap closed | seconds of training | |"
    assert rows[2] == "| scratch | 30.0 ± 14.1 | 0 % | 10 | no help |"
    assert rows[4].startswith("| attention distill | 60.0 ± 0.0 | 60 % | 10 | learns attention")
    assert rows[5].startswith("| ensemble | 95.0 | 130 % | – | ")
    alone = summary_table(arm_figures(made_up({"distill": (0.6,)})))
    assert alone[2].startswith("| attention distill | 60.0 | – | 10 | ")


def test_distances_in_a_table():
    rows = distance_table({"copy": Distance(None, 0.25, 0.5), "own": Distance(0.5, 0.125, 1.0)})
    assert rows[2:] == ["| copy | – | 0.250 | 0.50 |", "| own | 0.500 | 0.125 | 1.00 |"]


def test_curves_are_of_the_labels_loss_and_of_evaluations_where_there_are_some(tmp_path):
    write_rows(tmp_path)
    loss, top1 = curves(comparison(tmp_path), made_up())
    assert list(loss.runs) == ["scratch", "fine-tune", "attention distill"]
    assert loss.runs["scratch"] == [[(0, 2.0), (4, 0.4)]] * 2
    assert loss.runs["attention distill"] == [[(0, 1.0), (4, 0.2)]] * 2
    assert top1.title == "top-1, training batches"
    assert top1.runs["scratch"][0] == [(0, 0.0), (4, pytest.approx(0.4))]
    earlier = {"step": 4, "time": 0.0, "kind": "eval", "values": {"loss": 9.0, "top1": 0.25}}
    path = tmp_path / "scratch_seed1" / "metrics.jsonl"
    path.write_text(json.dumps(earlier) + "\n" + path.read_text())
    evaluated = curves(comparison(tmp_path), made_up())[1]
    assert evaluated.title == "top-1, evaluation"
    assert evaluated.runs["scratch"] == [[(8, 0.2)], [(4, 0.25), (8, 0.4)]]


def test_what_is_written(tmp_path, monkeypatch):
    def no_look(asked, arms):
        assert [arm.name for arm in arms] == ["scratch", "finetune", "distill"]
        raise ValueError("the teacher has no maps")

    monkeypatch.setattr(arm_report, "look", no_look)
    write_rows(tmp_path)
    texts = ReportTexts("A title", ["Before it."], ["After it."])
    failed = {"copy_seed0": "loss is nan"}
    table = write_report(comparison(tmp_path), made_up(), failed, texts, "the command")
    text = (tmp_path / "report.md").read_text()
    told = ["# A title", "Before it.", *table, "After it.", "* copy_seed0 failed: loss is nan"]
    told += ["![Curves](curves.png)", "No pictures: the teacher has no maps.", "`the command`"]
    places = [text.index(one) for one in told]
    assert places == sorted(places)
    assert (tmp_path / "curves.png").stat().st_size > 5000
    found = json.loads((tmp_path / "results.json").read_text())
    assert (found["command"], found["teacher"]) == ("the command", "mae/model")
    assert found["failed"] == failed
    distill = found["arms"]["attention distill"]
    assert distill["gap_closed"] == pytest.approx(0.6) and distill["distance"] is None
    assert distill["runs"][1] == {
        "seed": 1,
        "folder": "attention_distill_seed1",
        "config": "attention_distill:digits,labels=3,seed=1",
        "step": 8,
        "seconds": 11.0,
        "metrics": {"top1": 0.6, "loss": 1.0},
    }


def test_how_often_in_words():
    assert times(1, 5) == "once"
    assert times(3, 5) == "3 times, each with other images and other weights"
    assert times(3, 0) == "3 times, each with other weights"
