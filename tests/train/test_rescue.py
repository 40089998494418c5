"""However a run ends, its steps are kept; and a state that is no good never replaces a good one."""

import json
import math
import os
import signal
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs import assert_same_bits, checkpoint_arrays, rows, shared_program, tiny_config
from vit_jax_xfer.storage.checkpoints import CheckpointError, Checkpoints
from vit_jax_xfer.train import loop, rescue
from vit_jax_xfer.train.finished_models import save_finished
from vit_jax_xfer.train.inputs import TrainBatches
from vit_jax_xfer.train.memory_end import OutOfMemory, telling_what_helps
from vit_jax_xfer.train.metrics import MetricWriter
from vit_jax_xfer.train.rescue import saved_when_cut_short
from vit_jax_xfer.train.stopping import NonFiniteLoss, StoppedMidway

STEPS = 4


@pytest.fixture(scope="module", autouse=True)
def one_program():
    with shared_program():
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A run without any mishap."""
    folder = tmp_path_factory.mktemp("straight")
    loop.run(config(), folder)
    return folder


def config(**fields):
    return tiny_config("scratch", steps=STEPS, eval__every=2, **fields)


def kept(folder):
    with Checkpoints(folder / "checkpoints", best_metric="top1") as checkpoints:
        return checkpoints.steps()


class Mishap(Exception):
    """What nobody expects."""


def at(count, function):
    """`function`, which fails when it is called for the count-th time, from 0."""
    calls = iter(range(1000))

    def call(*given, **more):
        if next(calls) == count:
            raise Mishap("it broke")
        return function(*given, **more)

    return call


MISHAPS = {
    "batch": (TrainBatches, "__next__", 3),
    "evaluator": (loop, "evaluate_state", 1),
    "writer": (MetricWriter, "write", 3),  # the row of step 2
    "picture": (loop, "show", 0),
}
SAVED = {"batch": 3, "evaluator": 4, "writer": 4, "picture": 2}


@pytest.mark.parametrize("what", MISHAPS)
def test_an_error_costs_no_step_and_the_run_goes_on_to_the_same_bits(
    what, straight, tmp_path, monkeypatch, capsys
):
    place, name, count = MISHAPS[what]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, at(count, getattr(place, name)))
        with pytest.raises(Mishap):
            loop.run(config(), tmp_path)
    assert f"saved before step {SAVED[what]}, where" in capsys.readouterr().out
    assert kept(tmp_path)[-1] == SAVED[what]
    assert loop.run(config(), tmp_path)["finished"]
    assert "compiling the step (last time: " in capsys.readouterr().out
    assert_same_bits(checkpoint_arrays(tmp_path, STEPS), checkpoint_arrays(straight, STEPS))


def test_a_signal_ends_a_wait_for_data_that_does_not_come(straight, tmp_path, monkeypatch, capfd):
    take = TrainBatches.__next__

    def stuck(stream):
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        return take(stream)

    calls = iter(range(9))
    with monkeypatch.context() as patch:
        patch.setattr(TrainBatches, "__next__", stuck)
        begin = time.monotonic()
        result = loop.run(config(), tmp_path)
    assert (result["finished"], result["step"]) == (False, 3) and time.monotonic() - begin < 50
    assert kept(tmp_path)[-1] == 3 and rows(tmp_path) == rows(straight)[:4]  # one evaluation


class Kept:
    """Checkpoints of which the newest is `left`."""

    def __init__(self, left):
        self.left, self.discarded = left, []

    def latest_step(self):
        return self.left

    def discard(self, step):
        self.discarded.append(step)
        return self.left


def end(error, save, kept=None):
    with saved_when_cut_short(kept or Kept(4), save):
        raise error


def test_what_cannot_be_saved_leaves_the_first_error_to_be_told(capsys):
    def full():
        raise CheckpointError("disk full\nand more")

    with pytest.raises(Mishap):
        end(Mishap(), full)
    assert capsys.readouterr().out == "not saved: disk full\n"


def test_nothing_is_saved_where_other_processes_have_no_error(monkeypatch, capsys):
    monkeypatch.setattr(rescue, "all_come", lambda place, seconds: False)
    saves = []
    with pytest.raises(Mishap):
        end(Mishap(), lambda: saves.append(1))
    assert "not saved: the other processes" in capsys.readouterr().out and saves == []


@pytest.mark.parametrize("error", [CheckpointError("disk full"), KeyboardInterrupt()])
def test_what_is_not_tried(error):
    saves = []
    with pytest.raises(type(error)):
        end(error, lambda: saves.append(1))
    assert saves == []


def test_a_stop_midway_is_saved_and_ends_there():
    saves = []
    end(StoppedMidway(), lambda: saves.append(1))
    assert saves == [1]


@pytest.mark.parametrize(
    ("left", "told"),
    [
        (4, "the checkpoint before step 4 is intact"),
        (7, "the checkpoint before step 7, the only one, may hold the bad values already"),
        (None, "there is no checkpoint yet"),
    ],
)
def test_a_state_that_is_no_good_says_what_is_left(left, told):
    kept = Kept(left)
    with pytest.raises(NonFiniteLoss, match=f"^loss is nan at step 7: .*; {told}$"):
        end(NonFiniteLoss(7, "loss is nan"), pytest.fail, kept)
    assert kept.discarded == [7]


# Images that something follows normalisation of travel as floats, of which one may be no number.
FLOATS = {"data__pipeline": "normalize(0.5, 0.5)|flip"}


def spoiled(monkeypatch, when):
    """The state before step `when` holds a NaN, although no loss shows it; with FLOATS."""
    dispatch = loop.to_device

    def to_device(batch, mesh):
        placed = dispatch(batch, mesh)
        if next(steps) == when - 1:
            placed["image"] = placed["image"] * jnp.nan
        return placed

    steps = iter(range(1000))
    monkeypatch.setattr(loop, "to_device", to_device)


@pytest.mark.parametrize("when", [2, 3, STEPS])
def test_a_state_that_is_not_finite_replaces_none(when, tmp_path, monkeypatch):
    spoiled(monkeypatch, when)
    monkeypatch.setattr("vit_jax_xfer.train.step_log.check_finite", lambda *given: None)
    monkeypatch.setattr(loop, "check_finite", lambda *given: None)
    with pytest.raises(
        NonFiniteLoss, match=f"is not finite at step {when}.*before step {when - 1}"
    ):
        loop.run(config(checkpoint__every=1, **FLOATS), tmp_path)
    assert kept(tmp_path)[-1] == when - 1
    for name, array in checkpoint_arrays(tmp_path, when - 1).items():
        assert np.isfinite(array).all(), name


def test_a_network_whose_evaluation_is_no_number_does_not_finish(tmp_path, monkeypatch):
    figures = iter([{"loss": 1.0, "top1": 0.5}, {"loss": math.nan, "top1": 0.9}])
    monkeypatch.setattr(loop, "evaluate_state", lambda *given: next(figures))
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 4.*before step 2 is intact"):
        loop.run(config(), tmp_path)
    assert kept(tmp_path) == [2] and not (tmp_path / "model").exists()
    last = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()][-1]
    assert last["values"]["loss"] is None and last["nonfinite"] == ["loss"]


def test_nor_does_an_evaluation_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "evaluate_sets", lambda *given: {"loss": math.nan, "top1": 0.9})
    task = types.SimpleNamespace(init=lambda key: {})
    suites = types.SimpleNamespace(figures=lambda *given: {})
    inputs = types.SimpleNamespace(config=config())
    with pytest.raises(NonFiniteLoss, match="loss is nan"):
        loop.evaluate_only(task, {}, None, suites, inputs, tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_a_result_is_valid_json_whatever_it_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("vit_jax_xfer.train.finished_models.save_model", lambda *given: None)
    state = loop.TrainState(*[{}] * 6)
    metrics = {"loss": 1.0, "willow/PCK@0.1": math.nan, "a": -math.inf}
    save_finished(tmp_path, state, {}, {"finished": True, "metrics": metrics})

    def refuse(word):
        raise AssertionError(word)

    found = json.loads((tmp_path / "result.json").read_text(), parse_constant=refuse)
    assert found["metrics"] == {"loss": 1.0, "willow/PCK@0.1": None, "a": None}
    assert found["nonfinite"] == ["willow/PCK@0.1", "a"] and found["finished"]


def test_a_checkpoint_by_the_clock(tmp_path, monkeypatch):
    now = [0.0]
    dispatch = loop.to_device

    def to_device(batch, mesh):
        now[0] += 60.0
        return dispatch(batch, mesh)

    monkeypatch.setattr(loop, "SaveTimer", lambda minutes: timer_class(minutes, lambda: now[0]))
    monkeypatch.setattr(loop, "to_device", to_device)
    given = {"steps": 5, "eval__every": 0, "checkpoint__keep_last": 9}
    loop.run(tiny_config("scratch", **given, checkpoint__minutes=2.0), tmp_path)
    assert kept(tmp_path) == [2, 4, 5]


timer_class = loop.SaveTimer


def test_a_run_that_met_a_bad_batch_goes_on_without_it_and_counts_across_a_resume(
    tmp_path, monkeypatch
):
    given = {"steps": 6, "checkpoint__every": 2, **FLOATS}
    spoiled(monkeypatch, 4)
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 3.*before step 2 is intact"):
        loop.run(tiny_config("scratch", **given), tmp_path)
    given["optim__skip_nonfinite"] = True
    spoiled(monkeypatch, 2)  # of those that are left, as again in the next run
    with monkeypatch.context() as patch:
        patch.setattr(loop.StopSignal, "requested", lambda self, step: step == 4)
        loop.run(tiny_config("scratch", **given), tmp_path)
    spoiled(monkeypatch, 2)
    assert loop.run(tiny_config("scratch", **given), tmp_path)["finished"]
    counts = {
        step: values.get("skipped") for step, kind, values in rows(tmp_path) if kind == "train"
    }
    assert counts == {0: None, 1: None, 2: 0, 3: 1, 4: 1, 5: 2}


def exhausted(monkeypatch, error, when):
    """The step after `when` of a run meets an error."""
    dispatch, steps = loop.to_device, iter(range(1000))

    def to_device(batch, mesh):
        if next(steps) == when:
            raise error
        return dispatch(batch, mesh)

    monkeypatch.setattr(loop, "to_device", to_device)


NO_ROOM = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes\nmore")


def test_a_run_without_memory_is_saved_and_says_what_helps(tmp_path, monkeypatch):
    exhausted(monkeypatch, NO_ROOM, 3)
    with pytest.raises(OutOfMemory) as caught:
        loop.run(config(), tmp_path)
    assert str(caught.value).startswith(
        "out of memory (RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes): the same command "
        "goes on from the newest checkpoint, also with model.remat='full', mesh.fsdp over"
    )
    assert "in another workdir a smaller batch_size than" in str(caught.value)
    assert kept(tmp_path)[-1] == 3
    monkeypatch.undo()
    changed = config(model__remat="full")  # as it says
    assert loop.run(changed, tmp_path)["finished"]


def test_what_helps_before_there_is_a_checkpoint(tmp_path):
    given = config(data__workers=2)
    with (
        pytest.raises(OutOfMemory, match="no checkpoint yet; what may help: a smaller batch_size"),
        telling_what_helps(given, tmp_path),
    ):
        raise MemoryError
    full = CheckpointError("RESOURCE_EXHAUSTED: disk")
    for error in (full, ValueError("out of memory"), OutOfMemory("told already")):
        with pytest.raises(type(error)) as caught, telling_what_helps(given, tmp_path):
            raise error
        assert caught.value is error
