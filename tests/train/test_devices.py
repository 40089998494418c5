"""The same run on one device and on eight, split in every way: the same losses and parameters.

Each is also stopped half way and gone on with: to the bit on the same mesh.
"""

import functools
import itertools
import math

import jax
import numpy as np
import pytest

from tests.runs import (
    HALF,
    STEPS,
    TRANSFERS,
    UPSAMPLERS,
    assert_close_rows,
    assert_close_runs,
    assert_same_bits,
    checkpoint_arrays,
    half_way,
    losses,
    one_device_mesh,
    rows,
    save_teacher,
    tiny_config,
)
from vit_jax_xfer import data
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train import evaluation, loop
from vit_jax_xfer.train.evaluation import Evaluator
from vit_jax_xfer.train.sharding import make_mesh, param_shardings, place

MESHES = {
    "data=8": {"mesh__data": 8},
    "fsdp=8": {"mesh__data": 1, "mesh__fsdp": 8, "mesh__fsdp_min_elements": 1},
    "data=4 tensor=2": {"mesh__data": 4, "mesh__tensor": 2},
}
RUNS = {
    **TRANSFERS,
    # Its batch norm takes the whole batch's statistics, its choices each image's own.
    "filter_vit": {"model__keep": 0.5},
    "choice_transfer": {"model__keep": 0.5},
    # Features of the backbone are computed on the mesh; batch norm as above.
    "lift": {},
    "convex_lift": {"optim__accumulate": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def teacher(folder):
    return save_teacher(folder / "mae")


@pytest.fixture(scope="module")
def straight(folder, teacher):
    """(name, mesh) → the folder of a run in one go, made when first asked for; "" = one device."""

    @functools.cache
    def run(name, mesh=""):
        with pytest.MonkeyPatch.context() as patch:
            if not mesh:
                patch.setattr(loop, "make_mesh", one_device_mesh)
            workdir = folder / f"{name} {mesh}"
            loop.run(config(name, teacher, **MESHES.get(mesh, {})), workdir)
        return workdir

    return run


def config(name, teacher, **fields):
    given = {} if name in ("scratch", "filter_vit") else {"task__teacher": teacher}
    if name in UPSAMPLERS:
        given = {"task__backbone": teacher}
    return tiny_config(name, **given, **RUNS[name], **fields)


PAIRS = [*itertools.product(TRANSFERS, MESHES)]
OTHERS = [
    ("filter_vit", "fsdp=8"),
    ("choice_transfer", "fsdp=8"),
    ("lift", "data=4 tensor=2"),
    ("convex_lift", "data=8"),
]


@pytest.mark.parametrize(("name", "mesh"), PAIRS + OTHERS)
def test_eight_devices_give_the_numbers_of_one(name, mesh, straight):
    workdir = straight(name, mesh)
    if name in TRANSFERS:
        assert_close_runs(workdir, straight(name), STEPS)
    else:  # Adam makes steps of rounding, where a batch norm leaves a bias no gradient
        assert_close_rows(workdir, straight(name))
    moved = losses(workdir)
    assert max(moved) - min(moved) > 1e-3  # the runs did learn something to differ in


@pytest.mark.parametrize(("name", "mesh"), PAIRS)
def test_a_run_that_goes_on_ends_with_the_same_bits(
    name, mesh, straight, teacher, tmp_path, capsys
):
    workdir = half_way(straight(name, mesh), tmp_path / "run", HALF)
    loop.run(config(name, teacher, **MESHES[mesh]), workdir)
    assert f"resuming at step {HALF}" in capsys.readouterr().out
    assert rows(workdir) == rows(straight(name, mesh))
    arrays = (checkpoint_arrays(run, STEPS) for run in (workdir, straight(name, mesh)))
    assert_same_bits(*arrays)


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("scratch", "data=8", "data=4 tensor=2"),
        ("attention_copy", "fsdp=8", "data=8"),
        ("attention_distill", "data=4 tensor=2", "fsdp=8"),
    ],
)
def test_a_run_goes_on_on_another_mesh(name, before, after, straight, teacher, tmp_path):
    workdir = half_way(straight(name, before), tmp_path / "run", HALF)
    loop.run(config(name, teacher, **MESHES[after]), workdir)
    assert rows(workdir)[:HALF] == rows(straight(name, before))[:HALF]
    assert_close_runs(workdir, straight(name), STEPS)


def test_split_state_and_teacher_take_less_memory(teacher, tmp_path, capsys):
    loop.run(config("attention_distill", teacher, **MESHES["fsdp=8"]), tmp_path)
    split = capsys.readouterr().out
    loop.run(config("attention_distill", teacher), tmp_path / "whole")
    whole = capsys.readouterr().out
    assert ", fsdp" in split and ", fsdp" not in whole
    assert _state_kib(split) < 0.4 * _state_kib(whole)


def _state_kib(overview):
    line = next(line for line in overview.splitlines() if line.startswith("memory a device"))
    number, unit = line.split("(")[1].split(" of state")[0].split()
    assert unit == "KiB"
    return float(number)


@pytest.mark.parametrize("name", ["scratch", "masked_pretraining"])
def test_evaluation_hangs_neither_on_the_batch_nor_on_the_devices(name, folder, teacher):
    config = tiny_config(name)
    task = build_task(config, (8, 8, 3), 10)
    variables = jax.jit(task.init)(jax.random.key(0))
    if name == "masked_pretraining":
        variables = load_pretrained(teacher)[1]
    source = data.open_source("digits", "test[:77]")
    found = []
    for batch_size, mesh in (
        (8, make_mesh(8, 1, 1)),
        (80, make_mesh(1, 4, 2)),
        (7, one_device_mesh()),
    ):
        placed = place(variables, param_shardings(variables, mesh, 1))
        batches = data.eval_batches(source, config.eval.pipeline, batch_size=batch_size)
        with batches:
            found.append(Evaluator(task, mesh)(placed, {}, batches))
    assert "count" not in found[0]
    for other in found[1:]:
        assert other.keys() == found[0].keys()
        for metric, value in found[0].items():
            assert math.isclose(other[metric], value, rel_tol=1e-6), metric
    assert np.isfinite(found[0]["loss"])


def test_images_are_numbered_over_all_processes(monkeypatch):
    evaluator = Evaluator(None, make_mesh(8, 1, 1))
    monkeypatch.setattr(evaluator, "_sums", lambda variables, frozen, batch, finish: {"count": 4})
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    seen = []
    monkeypatch.setattr(evaluation, "to_device", lambda rows, mesh: seen.extend(rows["index"]))
    evaluator({}, {}, [{"mask": np.ones(4, bool)}] * 2)
    assert seen == [4, 5, 6, 7, 12, 13, 14, 15]
