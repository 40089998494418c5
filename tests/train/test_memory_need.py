"""What can't fit into memory is refused before it is compiled, with what to change."""

import jax
import pytest

from tests.runs import TRANSFERS, one_device_mesh, save_teacher, tiny_config
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train import loop, memory_need
from vit_jax_xfer.train.compile import Program, trace_step
from vit_jax_xfer.train.inputs import batch_shapes
from vit_jax_xfer.train.memory_need import Need, check_memory, need_of
from vit_jax_xfer.train.schedule import make_run_schedule


def traced(name, **fields):
    """A tiny run's config, its program on one device, and its batch."""
    config = tiny_config(name, **fields)
    batch = batch_shapes(config, (8, 8, 3))
    task = build_task(config, (8, 8, 3), 10)
    program = trace_step(task, config, make_run_schedule(config, 10.0), one_device_mesh(), batch)
    return config, program, batch


@pytest.fixture(scope="module")
def run():
    return traced("scratch", batch_size=64)


@pytest.fixture
def with_memory(monkeypatch, run, capsys):
    """What is said of the run on a device of so many bytes; errors are raised."""

    def call(available):
        monkeypatch.setattr(memory_need, "device_memory", lambda device: available)
        config, program, batch = run
        check_memory(program, batch, config)
        return capsys.readouterr().out

    return call


def test_what_fits_is_not_looked_at_closely(with_memory, monkeypatch):
    monkeypatch.setattr(memory_need, "kept_bytes", lambda jaxpr: pytest.fail("looked"))
    assert with_memory(2**40) == with_memory(None) == ""


def test_what_may_not_fit_is_said(with_memory, run):
    _, program, batch = run
    need = need_of(program, batch)
    said = with_memory(need.least("cpu"))
    assert said.startswith("memory: the step may need about ") and said.count("\n") == 1
    assert "on each device, which has " in said and "batch_size=" in said


def test_what_can_not_fit_is_refused_with_the_batch_that_would(with_memory, run):
    _, program, batch = run
    need = need_of(program, batch)
    available = int(need.usual(1 / 4, 1 / 4)) + 1
    assert available < need.least("cpu")
    with pytest.raises(ValueError) as error:
        with_memory(available)
    assert str(error.value).startswith("batch_size: a step on 64 images needs ")
    assert ": batch_size=16 should fit" in str(error.value)
    assert "model.remat='full', mesh.fsdp over several devices, a smaller model" in str(error.value)
    with pytest.raises(ValueError, match="no batch would fit; what may help: model.remat"):
        with_memory(need.held)


def test_parts_of_a_batch_need_less(run):
    need = Need(held=100, learnt=30, batch=64, kept=6400)
    config = tiny_config("scratch", batch_size=64, optim__accumulate=2)
    assert memory_need._fitting_parts(need, int(need.usual(1, 1 / 4)), config) == 8
    assert memory_need._fitting_parts(need, 164, config) is None
    # A batch is halved as long as the parts divide it.
    assert memory_need._fitting_batch(need, int(need.usual(1 / 32, 1 / 32)), config) == 2
    assert memory_need._fitting_batch(need, need.held, config) is None


def test_an_accelerators_compiler_may_make_products_again():
    need = Need(held=100, learnt=30, batch=64, kept=6400)
    assert need.least("cpu") == 6564
    assert need.least("gpu") == 164 + 6400 // memory_need.REMADE


def test_full_rematerialisation_of_forty_blocks_saves_as_much():
    fields = {"model__depth": 40, "model__width": 64, "model__num_heads": 4, "model__scan": True}
    kept = {}
    for remat in ("none", "full"):
        _, program, batch = traced("scratch", batch_size=64, model__remat=remat, **fields)
        kept[remat] = need_of(program, batch).kept
    # 20.5 of blocks that are not scanned, 19.5 of these.
    assert 0.92 * memory_need.REMADE < kept["none"] / kept["full"] <= memory_need.REMADE


def test_a_run_is_refused_before_its_step_is_compiled(monkeypatch, tmp_path):
    monkeypatch.setattr(memory_need, "device_memory", lambda device: 1000)
    monkeypatch.setattr(Program, "compile", lambda program: pytest.fail("compiled"))
    with pytest.raises(ValueError, match="^batch_size: a step on 16 images needs "):
        loop.run(tiny_config("scratch"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", TRANSFERS)
def test_the_least_is_no_more_than_a_compiled_step_takes(name, tmp_path):
    fields = dict(TRANSFERS[name])
    if name != "scratch":
        fields["task__teacher"] = save_teacher(tmp_path)
    _, program, batch = traced(name, batch_size=64, **fields)
    need, plain = need_of(program, batch), need_of(program, batch, plain=True)
    compiled = program.compile().memory_analysis().temp_size_in_bytes
    assert 0 < need.kept <= min(compiled, plain.kept)
    assert jax.devices()[0].platform != "cpu" or need.kept > compiled / 8
