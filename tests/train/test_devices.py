"""The same run on one device and on eight, split in every way: the same losses."""

import math

import jax
import numpy as np
import pytest

from tests.runs import UPSAMPLERS, losses, one_device_mesh, rows, tiny_config
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
# Drop path on, because its draws must not hang on the devices either.
RUNS = {
    "scratch": {"model__drop_path": 0.3, "optim__ema": 0.9},
    "attention_distill": {"model__drop_path": 0.3, "model__scan": True},
    "attention_copy": {"optim__accumulate": 2},
    # Its batch norm takes the whole batch's statistics, its choices each image's own.
    "filter_vit": {"model__keep": 0.5},
    # Features of the backbone are computed on the mesh; batch norm as above.
    "lift": {},
    "convex_lift": {"optim__accumulate": 2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def teacher(folder):
    loop.run(tiny_config("masked_pretraining", optim__lr=0.03), folder / "mae")
    return str(folder / "mae" / "model")


@pytest.fixture(scope="module")
def on_one_device(folder, teacher):
    """The rows of each run on the first device alone, made when first asked for."""
    made = {}

    def run(name):
        if name not in made:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(loop, "make_mesh", one_device_mesh)
                loop.run(config(name, teacher), folder / name)
            made[name] = rows(folder / name)
        return made[name]

    return run


def config(name, teacher, **fields):
    given = {} if name in ("scratch", "filter_vit") else {"task__teacher": teacher}
    if name in UPSAMPLERS:
        given = {"task__backbone": teacher}
    return tiny_config(name, **given, **RUNS[name], **fields)


PAIRS = [
    ("scratch", "data=8"),
    ("scratch", "fsdp=8"),
    ("attention_distill", "fsdp=8"),
    ("attention_distill", "data=4 tensor=2"),
    ("attention_copy", "data=8"),
    ("attention_copy", "data=4 tensor=2"),
    ("filter_vit", "fsdp=8"),
    ("lift", "data=4 tensor=2"),
    ("convex_lift", "data=8"),
]


@pytest.mark.parametrize(("name", "mesh"), PAIRS)
def test_eight_devices_give_the_losses_of_one(name, mesh, teacher, on_one_device, tmp_path):
    loop.run(config(name, teacher, **MESHES[mesh]), tmp_path)
    expected = on_one_device(name)
    for (step, kind, values), (other, other_kind, wanted) in zip(
        rows(tmp_path), expected, strict=True
    ):
        assert (step, kind, values.keys()) == (other, other_kind, wanted.keys())
        for metric, value in wanted.items():
            assert values[metric] == pytest.approx(value, abs=1e-5, rel=1e-5), (step, metric)
    moved = losses(tmp_path)
    assert max(moved) - min(moved) > 1e-3  # the runs did learn something to differ in


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
    monkeypatch.setattr(evaluator, "_sums", lambda variables, frozen, batch: {"count": 4})
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    seen = []
    monkeypatch.setattr(evaluation, "to_device", lambda rows, mesh: seen.extend(rows["index"]))
    evaluator({}, {}, [{"mask": np.ones(4, bool)}] * 2)
    assert seen == [4, 5, 6, 7, 12, 13, 14, 15]
