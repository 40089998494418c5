"""The commands around a comparison: what they are given, how they end, and one tiny real one."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from tests.runs import save_teacher
from vit_jax_xfer import quickstart
from vit_jax_xfer.compare import __main__ as command
from vit_jax_xfer.compare.arm_runs import Stopped
from vit_jax_xfer.compare.arms import Arm
from vit_jax_xfer.compare.comparison import ComparedImages
from vit_jax_xfer.compare.to_report import run_stoppable

GIVEN = ["--data=photos", "--teacher=mae/model"]


@pytest.fixture
def asked(monkeypatch):
    """The comparisons, with texts and command line, that commands would have run."""
    found = []

    def take(*given):
        found.append(given)
        return {}

    for module in (command, quickstart):
        monkeypatch.setattr(module, "run_to_report", take)
    return found


def test_arguments_become_a_comparison(asked):
    more = ["--arms=scratch,distill:mode=distill_q", "--seeds=2", "--labels=5", "--size=64"]
    more += [
        "--steps=9",
        "--out=runs/mine",
        "--at-once=2",
        "--config.optim.lr=1e-4",
        "--config.data.workers=1",
    ]
    assert command.main([*GIVEN, *more]) == 0
    ((made, texts, line, at_once),) = asked
    assert made.arms == (Arm("scratch"), Arm("distill", ("mode=distill_q",)))
    assert made.images == ComparedImages("photos", 5, 64) and made.teacher == "mae/model"
    assert (made.seeds, made.steps, str(made.root)) == (2, 9, "runs/mine")
    assert made.fields == ("optim.lr=1e-4", "data.workers=1")
    assert line.startswith("python -m vit_jax_xfer.compare --data=photos ") and at_once == 2
    assert "Images a class: 5 labelled. Trained 2 times" in texts.before[0]


@pytest.mark.parametrize("given", [GIVEN, [*GIVEN, "--labels=0"]])
def test_by_default_six_arms_three_seeds_all_images(given, asked):
    command.main(given)
    made, texts, _, at_once = asked[0]
    assert at_once == 1
    names = ["scratch", "finetune", "probe", "copy", "distill", "ensemble"]
    assert [arm.name for arm in made.arms] == names
    assert (made.seeds, made.steps, made.images) == (3, 0, ComparedImages("photos"))
    assert "class: all labelled. Trained 3 times, each with other weights." in texts.before[0]


def test_what_is_wrong_is_one_line(capsys):
    assert command.main([*GIVEN, "--arms=scratched"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "did you mean 'scratch'?" in error
    assert command.main([*GIVEN, "--out=gs://bucket/runs"]) == 1
    assert "error: --out: gs://bucket/runs is no folder" in capsys.readouterr().err
    for wrong in ("--step=3", "--config.optim.lr", "stray"):
        with pytest.raises(SystemExit):
            command.main([*GIVEN, wrong])
        assert f"{wrong}: no such argument" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main([*GIVEN, "--config.steps=3"])
    assert "--config.epochs: give --steps" in capsys.readouterr().err


def test_how_it_ends(capsys):
    def stop():
        raise Stopped

    def broken():
        raise ValueError("data: none")

    assert run_stoppable(stop) == 143
    assert "stopped; the same command goes on from there" in capsys.readouterr().out
    assert run_stoppable(broken) == 1 and capsys.readouterr().err == "error: data: none\n"
    assert run_stoppable(lambda: {"copy_seed0": "loss is nan"}) == 1
    assert capsys.readouterr().err == "error: copy_seed0: loss is nan\n"
    assert run_stoppable(dict) == 0


def test_quickstart_is_the_same_on_digits(asked, monkeypatch, tmp_path):
    taught = []

    def teach(*given):
        taught.append(given)
        return {"seconds": 12.3}

    monkeypatch.setattr(quickstart, "run_arm", teach)
    arguments = [f"--workdir={tmp_path}", "--teacher-steps=7", "--student-steps=9", "--labels=4"]
    assert quickstart.main(arguments) == 0
    ((config, argument, folder, fields),) = taught
    assert (config, argument) == ("masked_pretraining.py", "digits")
    assert folder == tmp_path / "teacher" and fields == {"steps": 7, "checkpoint.every": 500}
    made, texts, _, at_once = asked[0]
    assert at_once == min(4, len(os.sched_getaffinity(0)))
    assert [arm.title for arm in made.arms] == [
        "scratch", "fine-tune", "attention copy", "attention distill", "ensemble"
    ]  # fmt: skip
    assert (made.root, made.teacher) == (tmp_path, str(tmp_path / "teacher" / "model"))
    assert (made.images, made.steps, made.seeds) == (ComparedImages("digits", 4), 9, 2)
    assert "pre-trained for 7 steps" in texts.before[0] and "took 12 s" in texts.after[0]
    monkeypatch.setattr(quickstart, "run_arm", lambda *given: None)
    assert quickstart.main(arguments) == 143 and len(asked) == 1


def test_a_tiny_comparison_of_own_images_and_the_same_again(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for number in range(24):
        folder = tmp_path / "photos" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(folder / f"{number}.png")
    out = tmp_path / "out"
    given = [f"--data={tmp_path / 'photos'}", f"--teacher={save_teacher(tmp_path)}", f"--out={out}"]
    given += ["--arms=scratch,finetune,copy,distill,ensemble", "--seeds=1", "--size=8"]
    given += ["--steps=6", "--config.log.tensorboard=False", "--config.batch_size=8"]
    assert command.main([*given, "--at-once=2"]) == 0
    said = capsys.readouterr().out
    assert "--- 5 of 5, ensemble_seed0: ensemble:folder,path=" in said and "| ensemble | " in said
    report = (out / "report.md").read_text()
    assert "## What they look at" in report and "No pictures" not in report
    for name in ("curves.png", "attention.png"):
        assert (out / name).stat().st_size > 5000
    found = json.loads((out / "results.json").read_text())["arms"]
    copy, scratch = found["attention copy"], found["scratch"]
    assert copy["distance"]["same_head"] < 1e-6 < 1e-3 < scratch["distance"]["same_head"]
    assert set(found["ensemble"]["runs"][0]["metrics"]) >= {"top1", "loss"}
    assert scratch["runs"][0]["step"] == 6
    assert command.main(given) == 0
    said = capsys.readouterr().out
    assert said.count("finished already") == 5 and "compiling the step" not in said
    assert json.loads((out / "results.json").read_text())["arms"] == found
    assert command.main([*given, "--labels=2"]) == 1
    assert "was made with other arguments" in capsys.readouterr().err
