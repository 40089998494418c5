"""What the loop reads, writes and hands on, and when: with a step that says so."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from tests.runs import shared_program, tiny_config
from vit_jax_xfer.storage.checkpoints import Checkpoints
from vit_jax_xfer.train import loop
from vit_jax_xfer.train.compile import Program
from vit_jax_xfer.train.inputs import open_inputs
from vit_jax_xfer.train.stopping import NonFiniteLoss


@pytest.fixture(scope="module", autouse=True)
def one_program():
    with shared_program():
        yield


@pytest.fixture
def with_metrics(monkeypatch):
    """with_metrics(change): every run's step gives change(step, its metrics) in their place."""
    compile_step = Program.compile

    def apply(change):
        def compiled(program):
            step = compile_step(program)
            numbers = iter(range(100))

            def run(*given):
                state, metrics = step(*given)
                return state, change(next(numbers), metrics)

            run.memory_analysis = step.memory_analysis
            return run

        monkeypatch.setattr(Program, "compile", compiled)

    return apply


def test_no_checkpoint_is_written_of_a_broken_step(with_metrics, tmp_path):
    with_metrics(lambda step, metrics: {**metrics, "loss": np.float32(np.nan if step == 2 else 1)})
    with pytest.raises(NonFiniteLoss, match="at step 2.*before step 1 is intact"):
        loop.run(tiny_config("scratch", steps=6, checkpoint__every=1), tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [1]  # the last whose step gave a number


class Figure:
    """A number on a device that notes when the host reads it."""

    def __init__(self, note):
        self._note = note

    def __array__(self, dtype=None, copy=None):
        self._note()
        return np.ones((), dtype)

    def __float__(self):
        self._note()
        return 1.0


def test_metrics_are_read_while_the_next_step_runs(with_metrics, tmp_path):
    dispatched, read = [], {}

    def change(step, metrics):
        dispatched.append(step)
        return {name: Figure(lambda: read.setdefault(step, dispatched[-1])) for name in metrics}

    with_metrics(change)
    assert loop.run(tiny_config("scratch", steps=5), tmp_path)["finished"]
    assert read == {0: 1, 1: 2, 2: 3, 3: 4, 4: 4}


def test_benchmarks_get_the_weights_of_the_state(monkeypatch, tmp_path):
    seen = []

    class Benchmarks:
        def __init__(self, *given):
            pass

        def __call__(self, variables, frozen):
            seen.append(jax.device_get(variables))
            return {"willow/PCK@0.1": 0.5}

    def evaluate(evaluator, state, frozen, inputs):
        seen.append(jax.device_get(state.variables()))
        return {"top1": 0.5}

    monkeypatch.setattr(loop, "DenseBenchmarks", Benchmarks)
    monkeypatch.setattr(loop, "evaluate_state", evaluate)
    result = loop.run(tiny_config("scratch", steps=4, eval__every=2), tmp_path)
    assert result["metrics"] == {"top1": 0.5, "willow/PCK@0.1": 0.5}
    first, last = seen[:2], seen[2:]
    for wanted, found in (first, last):
        jax.tree.map(np.testing.assert_array_equal, found, wanted)
    assert any(
        (a != b).any()
        for a, b in zip(*(jax.tree.leaves(one[0]) for one in (first, last)), strict=True)
    )


def test_the_second_stream_has_an_order_of_its_own_and_goes_on_in_it():
    fields = {"data__per_class": 0, "data__pipeline": "normalize(0.5, 0.5)"}
    second = {"unlabeled__source": "digits", "unlabeled__batch_size": 16}
    inputs = open_inputs(tiny_config("scratch", **fields, **second))
    with inputs.train_stream(0) as stream:
        batches = [next(stream) for _ in range(2)]
    for batch in batches:
        assert batch["image"].shape == batch["unlabeled"].shape
        assert (batch["image"] != batch["unlabeled"]).any(axis=(1, 2, 3)).all()
    with inputs.train_stream(1) as stream:
        gone_on = next(stream)
    jax.tree.map(np.testing.assert_array_equal, gone_on, batches[1])


def test_a_run_that_only_evaluates_logs_as_its_config_says(monkeypatch, tmp_path):
    added = []
    tracker = SimpleNamespace(add=lambda *given: added.append(given), close=lambda: None)
    monkeypatch.setattr(loop, "open_tracker", lambda name, *given: tracker if name else None)
    monkeypatch.setattr(loop, "evaluate_sets", lambda *given: {"top1": 0.5})
    inputs = SimpleNamespace(
        config=tiny_config("ensemble", log__tensorboard=True, log__tracker="wandb")
    )
    task = SimpleNamespace(init=lambda key: {})
    suites = SimpleNamespace(figures=lambda *given: {})
    result = loop.evaluate_only(task, {}, None, suites, inputs, tmp_path)
    assert result["metrics"] == {"top1": 0.5} and added == [(0, "eval", {"top1": 0.5})]
    assert len(list(tmp_path.glob("tensorboard/*"))) == 1
    assert (tmp_path / "metrics.jsonl").is_file() and (tmp_path / "result.json").is_file()
