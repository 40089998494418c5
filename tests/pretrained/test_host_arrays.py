"""Loaders give host arrays: nothing lies on a device until somebody places it."""

import functools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained import load_pretrained, to_publisher_names
from vit_jax_xfer.pretrained.file_to_model import load_on_host
from vit_jax_xfer.pretrained.fill import param_shapes
from vit_jax_xfer.pretrained.lazy_arrays import LazyState, Stored
from vit_jax_xfer.pretrained.saved_models import save_file

CASES = {
    "scan": ("timm/supervised_cls", {"num_heads": 3, "scan": True}),
    "positions": ("dinov2/layerscale_native", {"num_heads": 3, "image_size": 70}),
    "tables": ("timm/beit", {"num_heads": 3, "image_size": 48}),
    "statistics": ("lift/c48_p8", {"patch_size": 8}),
}


def on_host(tree):
    return all(type(x) is np.ndarray and x.dtype == np.float32 for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("case", CASES)
def test_a_file_is_filled_without_a_device(golden, case):
    name, fields = CASES[case]
    with jax.transfer_guard("disallow_explicit"):
        _, variables, _ = load_on_host(golden(name), **fields)
    assert on_host(variables)
    placed = load_pretrained(golden(name), **fields)[1]
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(placed))
    jax.tree.map(np.testing.assert_array_equal, placed, variables)


def test_the_guard_would_notice():
    with pytest.raises(Exception, match="[Dd]isallowed"), jax.transfer_guard("disallow_explicit"):
        jnp.asarray(np.ones(3, np.float32))


def test_a_model_of_this_project_comes_to_the_host_too(golden, tmp_path):
    pytest.importorskip("safetensors", reason="needs safetensors to write one")
    model, variables, _ = load_on_host(golden("timm/supervised_cls"), num_heads=3)
    save_file(tmp_path / "model.safetensors", model, variables)
    with jax.transfer_guard("disallow_explicit"):
        again, loaded, found = load_on_host(tmp_path / "model.safetensors")
    assert again == model and found is None and on_host(loaded)
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)


def test_no_later_write_reaches_the_model(golden):
    state = {name: array.copy() for name, array in golden("timm/supervised_cls").items()}
    _, variables, _ = load_on_host(state, num_heads=3)
    state["norm.bias"] += 1
    assert not np.array_equal(variables["params"]["norm"]["bias"], state["norm.bias"])


@pytest.mark.parametrize("scan", [False, True])
def test_one_parameter_is_in_memory_beside_the_model(scan):
    model = VisionTransformer(image_size=32, patch_size=16, width=192, depth=12, num_heads=3)
    zeros = jax.tree.map(lambda x: np.broadcast_to(np.float32(0), x.shape), param_shapes(model))
    names = to_publisher_names({"params": zeros}, "supervised", "timm")
    state = LazyState(
        {
            name: Stored(x.shape, "float32", functools.partial(np.ones, x.shape, np.float32))
            for name, x in names.items()
        }
    )
    load_on_host(state, "supervised", scan=scan)  # what is traced once stays in memory
    tracemalloc.start()
    try:
        _, variables, _ = load_on_host(state, "supervised", scan=scan)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    leaves = jax.tree.leaves(variables)
    assert all((leaf == 1).all() for leaf in leaves)
    size = sum(leaf.nbytes for leaf in leaves)
    assert peak < 1.3 * size, f"{peak / size:.2f} times the model"
