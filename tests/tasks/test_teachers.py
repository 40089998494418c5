"""Loaded weights stay on the host until the loop gives each device its share."""

import math

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import tiny_config
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.pretrained.saved_models import save_file
from vit_jax_xfer.tasks.teachers import load_weights, scan_like
from vit_jax_xfer.train import initial_state, loop
from vit_jax_xfer.train.compile import Program
from vit_jax_xfer.train.rules import named_leaves
from vit_jax_xfer.train.sharding import place

FSDP = {"mesh__data": 1, "mesh__fsdp": 8, "mesh__fsdp_min_elements": 1}


class PlacedError(Exception):
    """Ends a run where its weights have been placed, before anything is compiled."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small finished network in one file."""
    fields = {"image_size": 8, "width": 16, "depth": 2, "num_heads": 2, "num_classes": 10}
    model = create_model("vit_micro_patch2", **fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    path = tmp_path_factory.mktemp("weights") / "vit.safetensors"
    save_file(path, model, jax.tree.map(lambda x: np.ones(x.shape, np.float32), shapes))
    return str(path)


def placed_by(config, workdir, monkeypatch, module=loop):
    """(the host's tree, the devices') of the first tree that a run places."""
    found = []

    def spy(tree, shardings):
        if jax.tree.leaves(tree):
            held = {id(array) for array in jax.live_arrays()} - before
            assert not held, "weights were on a device before they were placed"
            found.extend([tree, place(tree, shardings)])
            raise PlacedError
        return place(tree, shardings)

    monkeypatch.setattr(module, "place", spy)
    keep = jax.live_arrays()
    before = {id(array) for array in keep}
    with pytest.raises(PlacedError):
        loop.run(config, workdir)
    return found


FROZEN = {
    "attention_distill": "task__teacher",
    "attention_copy": "task__teacher",
    "lift": "task__backbone",
    "ensemble": "task__members",
}


@pytest.mark.parametrize("name", FROZEN)
def test_no_device_holds_more_than_its_share_of_frozen_weights(
    name, weights, tmp_path, monkeypatch
):
    path = (weights, weights) if name == "ensemble" else weights
    config = tiny_config(name, **{FROZEN[name]: path}, **FSDP)
    host, devices = placed_by(config, tmp_path, monkeypatch)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(host))
    held = dict.fromkeys(jax.devices(), 0)
    expected = 0
    for name, leaf in named_leaves(devices):
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
        whole = all(size % 8 for size in leaf.shape)
        expected += leaf.nbytes // (1 if whole else 8)
        assert whole or math.prod(leaf.addressable_shards[0].data.shape) == leaf.size // 8, name
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(host))
    assert set(held.values()) == {expected}
    assert expected < total / 7


def test_a_teacher_in_bfloat16_never_lies_on_a_device_in_float32(weights, tmp_path, monkeypatch):
    fields = {"task__teacher": weights, "task__teacher_dtype": "bfloat16", **FSDP}
    config = tiny_config("attention_distill", **fields)
    for tree in placed_by(config, tmp_path, monkeypatch):
        assert {leaf.dtype.name for leaf in jax.tree.leaves(tree)} == {"bfloat16"}


def test_a_teacher_may_be_whole_on_every_device(weights, tmp_path, monkeypatch):
    fields = {"task__teacher": weights, "mesh__fsdp_frozen": False, **FSDP}
    _, devices = placed_by(tiny_config("attention_distill", **fields), tmp_path, monkeypatch)
    for leaf in jax.tree.leaves(devices):
        assert leaf.addressable_shards[0].data.shape == leaf.shape


def test_weights_to_start_from_come_from_the_host(weights, tmp_path, monkeypatch):
    config = tiny_config("scratch", init_from=weights, **FSDP)
    monkeypatch.setattr(Program, "compile", lambda program: None)
    monkeypatch.setattr(loop, "overview", lambda program, step: "")
    host, devices = placed_by(config, tmp_path, monkeypatch, initial_state)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(host))
    kernel = devices["params"]["blocks_0"]["mlp"]["fc1"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size // 8


def test_a_damaged_teacher_is_named_by_its_field(weights, tmp_path):
    network, variables = vjx.load_pretrained(weights)
    vjx.save(tmp_path / "teacher", network, variables)
    for path in (tmp_path / "teacher/variables").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="^task.teacher: .*teacher.* damaged"):
        load_weights("task.teacher", str(tmp_path / "teacher"))


def test_only_blocks_that_are_alike_are_stacked_for_a_scanned_student():
    student = vjx.VisionTransformer(depth=2, num_heads=2, width=8, scan=True)
    plain = student.clone(scan=False)
    blocks = {f"blocks_{i}": {"x": np.zeros(3)} for i in range(2)}
    teacher, variables = scan_like(plain, {"params": blocks}, student)
    assert teacher.scan and variables["params"]["blocks"]["x"].shape == (2, 3)
    fields = {"class_token": False, "pool": "avg", "window_size": 2, "window_blocks": (0,)}
    teacher, variables = scan_like(plain.clone(**fields), {"params": blocks}, student)
    assert not teacher.scan and variables["params"].keys() == blocks.keys()
