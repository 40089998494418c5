"""The loop's own order of things: evaluations, checkpoints, rows, donated state."""

import json

import pytest

from tests.runs import rows, tiny_config
from vit_jax_xfer.storage.checkpoints import Checkpoints
from vit_jax_xfer.train import loop


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 6 steps: evaluated each 2, saved each 3, the best and the last kept."""
    folder = tmp_path_factory.mktemp("run")
    compiled = []
    with pytest.MonkeyPatch.context() as patch:
        shown = loop.overview
        patch.setattr(loop, "overview", lambda *given: compiled.append(given[-1]) or shown(*given))
        config = tiny_config(
            "scratch", steps=6, eval__every=2, checkpoint__every=2, log__every=4, optim__lr=0.05
        )
        result = loop.run(config, folder)
    return folder, result, compiled[0]


def test_rows_come_at_their_steps(finished):
    folder, result, _ = finished
    # Step 5 is the last: its row is written although 4 does not divide it.
    expected = [(0, "train"), (2, "eval"), (4, "train"), (4, "eval"), (5, "train"), (6, "eval")]
    found = [row[:2] for row in rows(folder)]
    assert sorted(found) == sorted(expected)
    assert [kind for _, kind in found].count("eval") == 3
    assert rows(folder)[-1][2] == result["metrics"]


def test_best_and_last_checkpoints_are_kept(finished):
    folder, _, _ = finished
    figures = {step: values["top1"] for step, kind, values in rows(folder) if kind == "eval"}
    best = max(step for step, top1 in figures.items() if top1 == max(figures.values()))
    with Checkpoints(folder / "checkpoints", best_metric="top1") as checkpoints:
        assert checkpoints.best_step() == best
        assert checkpoints.steps() == sorted({best, 6})


def test_result_is_written_down(finished):
    folder, result, _ = finished
    assert json.loads((folder / "result.json").read_text()) == result
    assert (result["finished"], result["step"]) == (True, 6) and result["seconds"] > 0


def test_state_is_donated(finished):
    memory = finished[2].memory_analysis()
    # All but the batch comes back in its own place: nothing of the state is held twice.
    assert memory.alias_size_in_bytes > 0.9 * memory.output_size_in_bytes > 3 * 4 * 6000


def test_overview_comes_before_the_first_step(tmp_path, capsys):
    loop.run(tiny_config("scratch", log__progress_seconds=0.0), tmp_path)
    out = capsys.readouterr().out
    places = [
        out.index(text) for text in ("parameters: ", "memory a device", "sharding:", "step 1")
    ]
    assert places == sorted(places)
    lines = [line for line in out.splitlines() if line.startswith("step ")]
    assert lines[-2].startswith("step 3/3 100%  loss ") and " ETA " in lines[-2]
    assert " img/s  data wait " in lines[-2]


def test_work_folder_may_be_relative_and_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    loop.run(tiny_config("scratch", steps=2), "one/two")
    assert (tmp_path / "one" / "two" / "model").is_dir()
    again = loop.run(tiny_config("scratch", steps=2), "~/one/two")
    assert again["finished"]


def test_tensorboard_events_are_written_where_asked(tmp_path):
    loop.run(tiny_config("scratch", steps=2, log__tensorboard=True), tmp_path)
    assert list((tmp_path / "tensorboard").glob("events.*"))
