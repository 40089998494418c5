"""Trees of parameters as JAX's users keep them: in memory, in msgpack, in folders of zarr."""

import json
import shutil

import flax
import flax.linen as nn
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tensorstore
from flax.training import checkpoints

from vit_jax_xfer.pretrained.read_files import read_checkpoint

TREE = {
    "cls": np.full((1, 1, 4), 2, np.float32),
    "Transformer": {
        "encoderblock_0": {"LayerNorm_0": {"scale": np.arange(4.0), "bias": np.zeros(4)}},
        "encoder_norm": {"scale": np.ones(4, np.float32)},
    },
}
FLAT = flax.traverse_util.flatten_dict(TREE, sep="/")
STATE = {"params": TREE, "step": np.array(3), "opt_state": {"0": {"mu": TREE}}}


def same(source, weights=None):
    found = read_checkpoint(source, weights).state
    assert set(found) == set(FLAT)
    for name, array in FLAT.items():
        assert found.shape(name) == array.shape
        np.testing.assert_array_equal(found[name], array)


def fails(match, source):
    with pytest.raises(ValueError, match=match) as caught:
        dict(read_checkpoint(source).state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        TREE,
        {"params": TREE},
        {"params": {"params": TREE}, "batch_stats": {"a": {"mean": np.ones(3)}}},
        STATE,
        {"target": TREE, "state": {"step": np.array(1), "param_states": TREE}},
        {"optimizer": {"target": TREE, "state": {"step": np.array(1)}}},
        {"opt": {"target": TREE}, "extra": {"x": np.ones(2)}},
        {"model": TREE, "step": 3},
        flax.core.freeze({"params": TREE}),
        flax.traverse_util.flatten_dict(TREE),
        flax.traverse_util.flatten_dict({"params": TREE}),
        jax.tree.map(lambda array: nn.Partitioned(array, ("x",)), TREE),
        jax.tree.map(lambda array: {"value": array}, {"params": TREE}),
        {**FLAT},
        {f"params/{name}": array for name, array in FLAT.items()},
    ],
    ids=range(15),
)
def test_mappings(source):
    same(source)


def test_lists_are_mappings_from_their_numbers():
    state = read_checkpoint({"blocks": [{"w": np.ones(2)}, {"w": np.zeros(2)}], "a": None}).state
    assert set(state) == {"blocks/0/w", "blocks/1/w"}


def test_two_names_of_one_place():
    with pytest.raises(ValueError, match="a/b is there twice"):
        read_checkpoint({"a": {"b": np.ones(1)}, "a/b": np.ones(1)})


@pytest.mark.parametrize("name", ["flax_model.msgpack", "x.msgpack", "checkpoint_100"])
@pytest.mark.parametrize("content", [TREE, {"target": TREE}, STATE])
def test_msgpack_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(flax.serialization.to_bytes(content))
    same(tmp_path / name)
    if name == "flax_model.msgpack":
        same(tmp_path)
    (tmp_path / name).write_bytes(flax.serialization.to_bytes(content)[:-9])
    fails(f"{name}: ", tmp_path / name)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Everything that Orbax and Flax write, once."""
    folder = tmp_path_factory.mktemp("trees")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "standard", STATE)
    ocp.PyTreeCheckpointer(use_ocdbt=False).save(folder / "apart", STATE)
    with ocp.CheckpointManager(folder / "run") as manager:
        for step in (1, 12):
            manager.save(step, args=ocp.args.StandardSave(STATE))
    with ocp.CheckpointManager(folder / "items") as manager:
        items = {"params": ocp.args.StandardSave(TREE), "notes": ocp.args.JsonSave({"a": 1})}
        manager.save(1, args=ocp.args.Composite(**items))
    checkpoints.save_checkpoint(folder / "flax", STATE, step=100)
    return folder


@pytest.mark.parametrize(
    "place", ["standard", "apart", "run/12", "run/12/default", "items/1", "flax/checkpoint_100"]
)
def test_orbax_folders(written, place):
    same(written / place)


def test_folders_of_any_name(written, tmp_path):
    """TensorStore takes addresses, in which these mean something; a folder's name is none."""
    for name in ("50%20off", "a#1", "really?", "a|b", "one two ü"):
        shutil.copytree(written / "standard", tmp_path / name)
        same(tmp_path / name)


@pytest.mark.parametrize(("place", "newest"), [("run", "12"), ("flax", "checkpoint_100")])
def test_folders_of_steps_name_the_newest(written, place, newest):
    fails(f"{place}: holds steps of a run; pass one of them, as .*/{newest}$", written / place)


def test_damaged_orbax_folders(written, tmp_path):
    described = json.loads((written / "apart" / "_METADATA").read_text())
    (tmp_path / "_METADATA").write_text("{")
    fails("cannot be read", tmp_path)
    (tmp_path / "_METADATA").write_text(json.dumps(described))
    fails("cannot be read", tmp_path)  # no arrays
    for one in described["tree_metadata"].values():
        one["key_metadata"] = [{"key": "../../outside"}]
    (tmp_path / "_METADATA").write_text(json.dumps(described))
    fails("leads into folders", tmp_path)


def zarr(path, array):
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": f"{path}/"}}
    store = tensorstore.open(spec, create=True, dtype=array.dtype, shape=array.shape).result()
    store.write(array).result()


def test_t5x_folders(tmp_path):
    for name, array in FLAT.items():
        zarr(tmp_path / f"target.{name.replace('/', '.')}", array)
    zarr(tmp_path / "state.param_states.cls.v", np.ones(3))
    (tmp_path / "checkpoint").write_bytes(
        flax.serialization.msgpack_serialize({"state": {"step": np.array(7)}, "version": 3})
    )
    same(tmp_path)


def test_zarr_that_would_unpack_to_gigabytes(tmp_path):
    zarr(tmp_path / "target.w", np.ones(3, np.float32))
    meta = tmp_path / "target.w" / ".zarray"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "shape": [2**40]}))
    fails("bytes that would unpack to", tmp_path)
