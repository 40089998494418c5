"""Which checkpoints a run keeps: the newest and the best, also where a signal came in between."""

import pytest

from tests.runs import rows, tiny_config
from vit_jax_xfer.storage.checkpoints import Checkpoints
from vit_jax_xfer.train import loop, stopping
from vit_jax_xfer.train.compile import Program

TOP1 = {2: 0.3, 4: 0.9, 6: 0.4, 8: 0.5}
EVERY_TWO = {"steps": 8, "eval__every": 2}


@pytest.fixture(scope="module", autouse=True)
def one_program():
    """Every run of this file takes the same step: it is traced and compiled once."""
    trace, compile_step, made = loop.trace_step, Program.compile, []

    def shared(*given):
        if not made:
            program = trace(*given)
            made.extend([program, compile_step(program)])
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "trace_step", shared)
        patch.setattr(Program, "compile", lambda self: made[1])
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
        ({"every": 3}, ([8], 8)),  # no checkpoint lies at the best step
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


def test_stopped_where_an_evaluation_was_due(evaluated, tmp_path, monkeypatch):
    config = tiny_config("scratch", **EVERY_TWO)
    with monkeypatch.context() as patch:
        patch.setattr(stopping.StopSignal, "requested", lambda self, step: step == 4)
        result = loop.run(config, tmp_path)
    assert (result["finished"], result["step"], evaluated) == (False, 4, [2])
    assert loop.run(config, tmp_path)["finished"]
    assert evaluated == [2, 4, 6, 8] and kept(tmp_path) == ([4, 8], 4)


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


def test_a_finished_run_again_ranks_the_same(evaluated, tmp_path):
    config = tiny_config("scratch", **EVERY_TWO)
    for _ in range(2):
        assert loop.run(config, tmp_path)["metrics"]["top1"] == TOP1[8]
        assert kept(tmp_path) == ([4, 8], 4)
