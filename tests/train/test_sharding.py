"""The mesh and where each parameter lies on it (eight fake devices)."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.train.rules import named_leaves
from vit_jax_xfer.train.sharding import (
    bytes_a_device,
    check_batch_size,
    check_tensor_axis,
    make_mesh,
    param_shardings,
    place,
    sharding_table,
    to_device,
)


def specs(shapes, mesh, min_elements=1):
    """{name: partition spec} of a tree of shapes, trailing Nones cut off."""
    return {
        name: trimmed(sharding.spec)
        for name, sharding in named_leaves(param_shardings(shapes, mesh, min_elements))
    }


def trimmed(spec):
    axes = list(spec)
    while axes and axes[-1] is None:
        axes.pop()
    return tuple(axes)


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def vit_shapes(**fields):
    model = create_model(
        "vit_micro_patch2", image_size=8, width=32, depth=3, num_heads=4, num_classes=10, **fields
    )
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]


@pytest.mark.parametrize(
    ("sizes", "filled"),
    [((-1, 1, 1), (8, 1, 1)), ((2, -1, 2), (2, 2, 2)), ((1, 8, 1), (1, 8, 1)), ((4, 1, -1), None)],
)
def test_minus_one_takes_what_is_left(sizes, filled):
    mesh = make_mesh(*sizes)
    assert mesh.axis_names == ("data", "fsdp", "tensor")
    assert tuple(mesh.shape.values()) == (filled or (4, 1, 2))
    assert sorted(device.id for device in mesh.devices.flat) == list(range(8))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((-1, -1, 1), "one of them may be -1"),
        ((0, 1, 1), "must be positive"),
        ((-1, 3, 1), "data=-1, fsdp=3, tensor=1 does not fill the 8 devices"),
        ((4, 1, 1), "data=4, fsdp=1, tensor=1 does not fill the 8 devices"),
        ((16, 1, 1), "does not fill the 8 devices"),
    ],
)
def test_mesh_errors(sizes, message):
    with pytest.raises(ValueError, match="mesh: .*" + message):
        make_mesh(*sizes)


def of_processes(sizes, numbers):
    """Devices (data, fsdp, tensor) of these processes, in order."""
    devices = [types.SimpleNamespace(process_index=number) for number in numbers]
    return np.array(devices, object).reshape(sizes)


def test_a_tensor_axis_lies_within_a_process():
    check_tensor_axis(of_processes((2, 1, 2), [0, 0, 1, 1]))
    check_tensor_axis(of_processes((1, 4, 1), [1, 0, 0, 1]))
    for sizes, numbers in (((2, 1, 2), [0, 1, 0, 1]), ((1, 2, 4), [0] * 3 + [1] * 5)):
        with pytest.raises(ValueError, match=r"^mesh.tensor: . devices that .* 0 and 1, and each"):
            check_tensor_axis(of_processes(sizes, numbers))


def test_rows_of_a_process_are_its_part_of_a_global_batch(monkeypatch):
    asked = []
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    monkeypatch.setattr(
        jax, "make_array_from_process_local_data", lambda *given: asked.append(given[1:])
    )
    rows = np.zeros((8, 3), np.uint8)
    to_device({"image": rows}, jax.make_mesh((8, 1), ("data", "fsdp")))
    assert asked == [(rows, (32, 3))]


def test_batch_must_be_a_multiple_of_the_mesh_and_its_parts():
    mesh = make_mesh(2, 2, 2)
    check_batch_size(mesh, 4, "batch_size")
    check_batch_size(mesh, 24, "batch_size", accumulate=3)
    with pytest.raises(ValueError, match="batch_size: 6 is not a multiple of .* fsdp = 4$"):
        check_batch_size(mesh, 6, "batch_size")
    with pytest.raises(ValueError, match="batch_size: 16 .* = 4, times optim.accumulate = 3"):
        check_batch_size(mesh, 16, "batch_size", accumulate=3)
    with pytest.raises(ValueError, match="eval.batch_size: 0"):
        check_batch_size(mesh, 0, "eval.batch_size")
    with pytest.raises(ValueError, match="optim.accumulate: 0"):
        check_batch_size(mesh, 16, "batch_size", accumulate=0)


def test_tensor_axis_splits_heads_and_hidden_layer():
    found = specs(vit_shapes(), make_mesh(4, 1, 2))
    block = {name.removeprefix("blocks_1/"): spec for name, spec in found.items() if "_1/" in name}
    assert block["attention/qkv/kernel"] == (None, None, "tensor")  # (C, 3, H, d)
    assert block["attention/qkv/bias"] == (None, "tensor")
    assert block["attention/proj/kernel"] == ("tensor",)  # (H, d, C)
    assert block["mlp/fc1/kernel"] == (None, "tensor")
    assert block["mlp/fc1/bias"] == block["mlp/fc2/kernel"] == ("tensor",)
    assert sum("tensor" in spec for spec in found.values()) == 3 * 6


def test_stacked_blocks_are_split_like_single_ones():
    single, stacked = (specs(vit_shapes(scan=scan), make_mesh(4, 1, 2)) for scan in (False, True))
    for name, spec in stacked.items():
        if name.startswith("blocks/"):
            one = single[name.replace("blocks/", "blocks_0/")]
            assert spec == ((None, *one) if one else ()), name


def test_tensor_axis_that_does_not_divide_the_heads():
    with pytest.raises(ValueError, match="mesh.tensor: 8 does not divide 4, .*attention/"):
        specs(vit_shapes(), make_mesh(1, 1, 8))


def test_fsdp_takes_the_largest_free_dimension_that_it_divides():
    mesh = make_mesh(1, 4, 2)
    tree = {
        "head": {"kernel": shape(8, 16)},
        "head_hidden": {"kernel": shape(8, 17)},
        "distillation_classifier": {"kernel": shape(9, 17)},
        "attention_pool": {"proj": {"kernel": shape(64, 8, 32)}},  # 64 belongs to the tensor axis
    }
    assert specs(tree, mesh) == {
        "attention_pool/proj/kernel": ("tensor", None, "fsdp"),
        "distillation_classifier/kernel": (),
        "head/kernel": (None, "fsdp"),
        "head_hidden/kernel": ("fsdp",),
    }


def test_small_parameters_stay_whole():
    tree = {"mask_token": shape(8, 15), "pos_embed": shape(8, 16)}
    assert specs(tree, make_mesh(1, 8, 1), 128) == {
        "mask_token": (),
        "pos_embed": (None, "fsdp"),
    }


def test_place_and_to_device_keep_the_values():
    mesh = make_mesh(2, 4, 1)
    array = np.arange(64, dtype=np.float32).reshape(8, 8)
    placed = place({"pos_embed": array}, param_shardings({"pos_embed": shape(8, 8)}, mesh, 1))[
        "pos_embed"
    ]
    assert placed.addressable_shards[0].data.shape == (2, 8)
    np.testing.assert_array_equal(placed, array)
    batch = to_device({"image": array}, mesh)["image"]
    assert trimmed(batch.sharding.spec) == (("data", "fsdp"),)
    assert [shard.data.shape for shard in batch.addressable_shards] == [(1, 8)] * 8
    np.testing.assert_array_equal(batch, array)


def test_a_device_gets_its_share_alone():
    mesh = make_mesh(1, 8, 1)
    tree = {"head": {"kernel": np.ones((64, 16), np.float32), "bias": np.ones(9, np.int32)}}
    shardings = param_shardings(tree, mesh, 1)
    placed = place(tree, shardings)
    held = dict.fromkeys(jax.devices(), 0)
    for leaf in jax.tree.leaves(placed):
        for shard in leaf.addressable_shards:
            held[shard.device] += shard.data.nbytes
    assert set(held.values()) == {64 * 16 * 4 // 8 + 9 * 4}
    assert bytes_a_device(tree, shardings) == 64 * 16 * 4 // 8 + 9 * 4
    # Types are the host's, and a stand-in that repeats one number is placed as well.
    zeros = np.broadcast_to(jnp.zeros((), jnp.bfloat16), (64, 16))
    kernel = place({"kernel": zeros}, {"kernel": shardings["head"]["kernel"]})["kernel"]
    assert kernel.dtype == jnp.bfloat16 and kernel.addressable_shards[0].data.size == 128


def test_table_counts_like_parameters_and_says_where_they_lie():
    shapes, mesh = vit_shapes(), make_mesh(1, 4, 2)
    table = sharding_table(shapes, param_shardings(shapes, mesh, 1024)).splitlines()
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in table}
    assert rows["blocks_*/attention/qkv/kernel"] == "3 × 32×3×4×8 fsdp, ·, tensor, ·"
    assert rows["blocks_*/mlp/fc2/kernel"] == "3 × 128×32 tensor, fsdp"
    assert rows["blocks_*/norm1/bias"] == "3 × 32 on every device"
    assert rows["head/bias"] == "10 on every device"
    assert len(rows) == 12 + 8  # kinds in a block, and outside


def test_table_of_a_scalar():
    mesh = make_mesh(-1, 1, 1)
    tree = {"distance": shape()}
    assert sharding_table(tree, param_shardings(tree, mesh, 1)).split()[1] == "scalar"
    assert param_shardings(tree, mesh, 1)["distance"].spec == P()
