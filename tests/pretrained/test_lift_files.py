"""LiFT's files: its authors' names both ways, what does not load, and this project's own."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.outputs import assert_same, prefixed
from vit_jax_xfer.convert import overview
from vit_jax_xfer.models.lifting.convex_lift import ConvexLiFT
from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.pretrained import load_pretrained, to_publisher_names
from vit_jax_xfer.pretrained.description import describe, from_description
from vit_jax_xfer.pretrained.file_to_model import load_on_host
from vit_jax_xfer.pretrained.saved_models import save_file


@pytest.mark.parametrize("case", ["c48_p8", "c48_p16"])
def test_to_the_authors_names_and_back(golden, case):
    state = golden(f"lift/{case}")
    model, variables, found = load_on_host(state, patch_size=14)  # told from the names
    assert (type(model), model.patch_size, found.family.name) == (LiFT, 14, "lift")
    back = to_publisher_names(variables, "lift")
    counts = {name for name in state if name.endswith("num_batches_tracked")}
    assert counts and back.keys() == state.keys() - counts
    for name in back:
        np.testing.assert_array_equal(back[name], state[name], err_msg=name)
    for same in (prefixed("module.", state), {"state_dict": state}, back):
        assert_same(load_pretrained(same, family="lift", patch_size=14)[1], variables)
    text = overview("lift.pth", model, variables, found)
    assert "LiFT, 0.05 million" in text and "width 48, patch 14" in text


def test_files_that_do_not_load(golden):
    state = golden("lift/c48_p16")
    renamed = {name.replace("image_convs_2.0", "image_convs_3.0"): x for name, x in state.items()}
    wrong = {**state, "image_convs_1.3.weight": np.zeros((32, 16, 3, 3), np.float32)}
    lacking = {name: x for name, x in state.items() if name != "up1.up.bias"}
    headless = {name: x for name, x in state.items() if name != "outc.weight"}
    for given, fields, message in (
        (state, {}, "^patch_size: a LiFT's file does not tell it; pass patch_size="),
        (state, {"patch_size": None}, "^patch_size: a LiFT's file does not tell it"),
        (state, {"patch_size": 16, "width": 384}, "^width: got 384, but the file has 48"),
        (state, {"patchsize": 16}, "LiFT has no field 'patchsize'; did you mean 'patch_size'"),
        (renamed, {"patch_size": 16}, "not used: image_convs_3.0.weight, image_convs_3.0.bias; 2"),
        (wrong, {"patch_size": 16}, "image_convs_1.3.weight: found .*wanted .32, 32, 3, 3."),
        (lacking, {"patch_size": 16}, r"not filled: up/bias \(from up1.up.bias\)"),
        (headless, {"patch_size": 16}, "^outc.weight: not in the file"),
        ({"cls_token": state["outc.bias"]}, {"family": "lift"}, "^family: 'lift' has names as up1"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            load_pretrained(given, **fields)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [LiFT(8, 14), ConvexLiFT(8, 14, radius=1, key_width=5)])
def test_a_model_directory_and_a_file_of_this_project(tmp_path, model):
    from vit_jax_xfer.storage.checkpoints import save_model

    pytest.importorskip("safetensors", reason="needs safetensors to write one")
    shapes = jax.eval_shape(model.init, jax.random.key(0), *model.example_inputs())
    variables = jax.tree.map(lambda x: jnp.full(x.shape, 0.1), shapes)
    assert from_description(json.loads(json.dumps(describe(model)))) == model
    save_model(tmp_path / "model", variables, describe(model))
    save_file(tmp_path / "model.safetensors", model, variables)
    for path in (tmp_path / "model", tmp_path / "model.safetensors"):
        again, loaded = load_pretrained(path)
        assert again == model
        assert_same(loaded, variables)
        with pytest.raises(ValueError, match="has its fields; drop patch_size"):
            load_pretrained(path, patch_size=16)
        half, _ = load_pretrained(path, dtype=jnp.bfloat16)
        assert half == model.clone(dtype=jnp.bfloat16)
    text = overview("x", again, loaded, None)
    assert f"{type(model).__name__}, 0.0" in text and "width 8, patch 14" in text


def test_the_successor_has_no_names_of_the_authors():
    model = ConvexLiFT(8, 14)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *model.example_inputs())
    variables = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    with pytest.raises(ValueError, match="distance"):
        to_publisher_names(variables, "lift")
