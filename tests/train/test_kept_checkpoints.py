"""Which checkpoints a run keeps, also where a signal came in between; and each is a model."""

import os
import shutil
import signal

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import assert_same_bits, checkpoint_arrays, rows, shared_program, tiny_config
from vit_jax_xfer.storage.checkpoints import CheckpointError, Checkpoints
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train import loop, stopping
from vit_jax_xfer.train.evaluation import evaluate_state
from vit_jax_xfer.train.patience import Patience

TOP1 = {2: 0.3, 4: 0.9, 6: 0.4, 8: 0.5}
EVERY_TWO = {"steps": 8, "eval__every": 2}


@pytest.fixture(scope="module", autouse=True)
def one_program():
    with shared_program():
        yield


@pytest.fixture
def evaluated(monkeypatch):
    """The steps that were evaluated; the figures are those of TOP1, and the loss follows them."""
    steps = []

    def evaluate(evaluator, state, frozen, inputs):
        steps.append(int(state.step))
        return {"top1": TOP1[steps[-1]], "loss": TOP1[steps[-1]]}

    monkeypatch.setattr(loop, "evaluate_state", evaluate)
    return steps


def kept(folder, metric="top1"):
    with Checkpoints(folder / "checkpoints", best_metric=metric) as checkpoints:
        return checkpoints.steps(), checkpoints.best_step()


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"every": 1, "keep_last": 3}, ([4, 6, 7, 8], 4)),
        ({"every": 3}, ([4, 8], 4)),  # the best is saved where no checkpoint was due
        ({"every": 3, "keep_best": 0}, ([8], 8)),
        ({"keep_best": 3}, ([4, 6, 8], 4)),
        ({"keep_best": 0}, ([8], 8)),
        ({"best_metric": ""}, ([8], 8)),
        ({"best_metric": "loss"}, ([2, 8], 2)),
    ],
)
def test_every_field_of_the_section_is_heard(fields, expected, evaluated, tmp_path):
    given = {f"checkpoint__{name}": value for name, value in fields.items()}
    assert loop.run(tiny_config("scratch", **EVERY_TWO, **given), tmp_path)["finished"]
    assert kept(tmp_path, fields.get("best_metric") or "top1") == expected
    assert evaluated == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("patience", "metric", "steps"), [(1, "top1", 6), (2, "top1", 8), (1, "loss", 4)]
)
def test_a_run_ends_where_evaluations_get_no_better(patience, metric, steps, evaluated, tmp_path):
    fields = {"eval__patience": patience, "checkpoint__best_metric": metric, "steps": 12}
    result = loop.run(tiny_config("scratch", **{**EVERY_TWO, **fields}), tmp_path)
    assert (result["finished"], result["step"]) == (True, steps)
    assert evaluated == list(range(2, steps + 1, 2))
    assert kept(tmp_path, metric) == (sorted({steps, 4 if metric == "top1" else 2}), *best(metric))
    assert (tmp_path / "model").is_dir() and (tmp_path / "model_best").is_dir()


def best(metric):
    return [4 if metric == "top1" else 2]


def test_patience_goes_on_after_a_stop(evaluated, tmp_path, monkeypatch):
    config = tiny_config("scratch", **{**EVERY_TWO, "steps": 12}, eval__patience=2)
    with monkeypatch.context() as patch:
        patch.setattr(stopping.StopSignal, "requested", lambda self, step: step == 7)
        assert not loop.run(config, tmp_path)["finished"]
    assert evaluated == [2, 4, 6]
    assert loop.run(config, tmp_path)["step"] == 8
    assert loop.run(config, tmp_path)["step"] == 8  # a run that has ended stays where it is
    assert evaluated == [2, 4, 6, 8, 8]


def test_patience_that_goes_by_another_metric_now_begins_anew():
    before = Patience(2, "top1", {})
    assert not before.ends(2, {"top1": 0.9})
    now = Patience(2, "loss", before.state())
    assert not any(now.ends(step, {"loss": loss}) for step, loss in ((4, 1.5), (6, 1.2), (8, 1.3)))
    assert Patience(2, "loss", now.state()).ends(10, {"loss": 1.4})


def test_patience_knows_the_best_before_it_is_given_a_limit():
    before = Patience(0, "top1", {}, "so")
    ended = [before.ends(step, {"top1": TOP1[step]}) for step in TOP1]
    assert ended == [False] * 4
    assert not Patience(1, "top1", before.state(), "so").ends(8, {"top1": 0.1})  # counted already
    assert Patience(1, "top1", before.state(), "so").ends(10, {"top1": 0.8})
    assert not Patience(1, "top1", before.state(), "otherwise").ends(10, {"top1": 0.1})


def test_of_another_evaluation_nothing_competes(evaluated, tmp_path, capsys):
    fields = {**EVERY_TWO, "steps": 6}
    loop.run(tiny_config("scratch", **fields), tmp_path)
    assert kept(tmp_path) == ([4, 6], 4)
    fields |= {"steps": 8, "eval__split": "test[80:160]", "eval__patience": 1}
    assert loop.run(tiny_config("scratch", **fields), tmp_path)["finished"]
    assert "the evaluation is another than before" in capsys.readouterr().out
    assert evaluated == [2, 4, 6, 6, 8]  # its patience began anew with the first of them
    assert kept(tmp_path) == ([8], 8)  # not step 4, whose figure is of other images


def test_stopped_where_an_evaluation_was_due(evaluated, tmp_path, monkeypatch):
    config = tiny_config("scratch", **EVERY_TWO)
    with monkeypatch.context() as patch:
        patch.setattr(stopping.StopSignal, "requested", lambda self, step: step == 4)
        result = loop.run(config, tmp_path)
    assert (result["finished"], result["step"], evaluated) == (False, 4, [2])
    assert loop.run(config, tmp_path)["finished"]
    assert evaluated == [2, 4, 6, 8] and kept(tmp_path) == ([4, 8], 4)


def test_a_damaged_newest_checkpoint_gives_way_where_that_is_asked(evaluated, tmp_path, capsys):
    fields = {**EVERY_TWO, "checkpoint__every": 2, "checkpoint__keep_last": 9}
    loop.run(tiny_config("scratch", **fields), tmp_path)
    straight = checkpoint_arrays(tmp_path, 8)
    for path in (tmp_path / "checkpoints/8/state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="8 is damaged.*--config.checkpoint.fallback=True"):
        loop.run(tiny_config("scratch", **fields), tmp_path)
    assert kept(tmp_path)[0] == [2, 4, 6, 8]
    capsys.readouterr()
    loop.run(tiny_config("scratch", **fields, checkpoint__fallback=True), tmp_path)
    said = capsys.readouterr().out
    assert "set aside as" in said and (tmp_path / "checkpoints/damaged-8-1/state").exists()
    assert "steps 6 to 7, made before, are made again" in said
    assert_same_bits(checkpoint_arrays(tmp_path, 8), straight)


def test_killed_in_an_evaluation(evaluated, tmp_path, monkeypatch):
    config = tiny_config("scratch", **EVERY_TWO)
    with monkeypatch.context() as patch:
        patch.setitem(TOP1, 4, None)  # a kill leaves no figure
        with pytest.raises(TypeError):
            loop.run(config, tmp_path)
    assert kept(tmp_path)[0] == [2, 4]  # the steps before the evaluation are safe
    assert loop.run(config, tmp_path)["finished"]
    assert evaluated == [2, 4, 4, 6, 8] and kept(tmp_path) == ([4, 8], 4)
    assert [row[0] for row in rows(tmp_path) if row[1] == "eval"] == [2, 4, 6, 8]


@pytest.mark.parametrize("every", [2, 100])  # with a checkpoint before the evaluation, or none
def test_a_signal_in_an_evaluation_leaves_it(every, evaluated, tmp_path, monkeypatch, capfd):
    config = tiny_config("scratch", **EVERY_TWO, checkpoint__every=every)
    figures = loop.evaluate_state

    def signalled(evaluator, state, *given):
        if state.step < 4:
            return figures(evaluator, state, *given)
        os.kill(os.getpid(), signal.SIGTERM)
        return evaluate_state(evaluator, state, *given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate_state", signalled)
        result = loop.run(config, tmp_path)
    assert (result["finished"], result["step"], evaluated) == (False, 4, [2])
    assert not (tmp_path / "model").exists()
    assert loop.run(config, tmp_path)["finished"]
    assert evaluated == [2, 4, 6, 8] and kept(tmp_path) == ([4, 8], 4)


def test_a_signal_in_the_last_evaluation_leaves_the_run_unfinished(
    evaluated, tmp_path, monkeypatch, capfd
):
    config, save = tiny_config("scratch", steps=2), Checkpoints.save

    def signalled():
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate_state", evaluate_state)
        patch.setattr(Checkpoints, "save", lambda *given: signalled() or save(*given))
        result = loop.run(config, tmp_path)
    assert (result["finished"], result["step"]) == (False, 2)
    assert not (tmp_path / "model").exists() and not (tmp_path / "result.json").exists()
    assert loop.run(config, tmp_path)["finished"] and evaluated == [2]


def test_a_finished_run_again_ranks_the_same(evaluated, tmp_path):
    config = tiny_config("scratch", **EVERY_TWO)
    for _ in range(2):
        assert loop.run(config, tmp_path)["metrics"]["top1"] == TOP1[8]
        assert kept(tmp_path) == ([4, 8], 4)


# --- a checkpoint as a model ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def ranked(tmp_path_factory):
    """A run with an average, best at step 4 by the average's figure; and its last state."""
    folder, states = tmp_path_factory.mktemp("ranked"), {}

    def evaluate(evaluator, state, frozen, inputs):
        step = int(state.step)
        states[step] = jax.device_get({"params": state.params, "ema": state.ema})
        return {"ema_top1": TOP1[step], "top1": -TOP1[step]}

    fields = {**EVERY_TWO, "optim__ema": 0.9, "checkpoint__best_metric": "ema_top1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "evaluate_state", evaluate)
        assert loop.run(tiny_config("scratch", **fields), folder)["finished"]
    return folder, states


def assert_is(variables, expected):
    jax.tree.map(np.testing.assert_array_equal, dict(variables), {"params": expected})


def test_the_best_is_a_model_of_what_its_metric_is_of(ranked):
    folder, states = ranked
    model, variables = vjx.load_pretrained(folder / "model_best")
    assert_is(variables, states[4]["ema"])
    assert model == vjx.load_pretrained(folder / "model")[0]


@pytest.mark.parametrize(("weights", "part"), [(None, "params"), ("params",) * 2, ("ema",) * 2])
def test_a_checkpoint_is_a_model(ranked, weights, part):
    folder, states = ranked
    model, variables = vjx.load_pretrained(folder / "checkpoints" / "4", weights=weights)
    assert_is(variables, states[4][part])
    assert model == vjx.load_pretrained(folder / "model")[0]


def test_a_run_is_its_finished_model(ranked):
    folder, states = ranked
    assert_is(vjx.load_pretrained(folder)[1], states[8]["params"])


def test_a_checkpoint_is_a_teacher(ranked, tmp_path):
    folder, states = ranked
    config = tiny_config("attention_distill", task__teacher=str(folder / "checkpoints" / "4"))
    task = build_task(config, (8, 8, 3), 10)
    assert_is({"params": task.frozen["params"]}, states[4]["params"])


def test_what_is_no_model_of_a_run_says_what_to_pass(ranked, tmp_path):
    folder, _ = ranked
    stopped = shutil.copytree(folder / "checkpoints", tmp_path / "run" / "checkpoints")
    for path in (tmp_path / "run", stopped):
        with pytest.raises(ValueError, match="no finished model; its newest is .*/checkpoints/8$"):
            vjx.load_pretrained(path)
    with pytest.raises(ValueError, match="weights: 'teacher' is none of params, ema of .*/8"):
        vjx.load_pretrained(stopped / "8", weights="teacher")
    with pytest.raises(ValueError, match="has its fields; drop width"):
        vjx.load_pretrained(stopped / "8", width=3)
    (stopped / "8" / "checksums" / "metadata").write_text("{}")
    with pytest.raises(CheckpointError, match="checkpoint .*/8 is damaged: the bits of params/"):
        vjx.load_pretrained(stopped / "8")
