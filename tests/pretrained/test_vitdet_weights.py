"""ViTDet's files: what they tell, whose names they have, and transformers' own outputs."""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.other_libraries import library
from vit_jax_xfer.pretrained import to_publisher_names
from vit_jax_xfer.pretrained.fill import variable_shapes

BOTH = "dense/vitdet/window_global_relpos_native"  # tables of windows and of the whole grid
CONVOLUTIONS = "dense/vitdet/conv_propagation_native"
WINDOWS = {"window_size": 3, "window_blocks": (0, 1, 2, 3)}


def test_tables_of_two_sizes_tell_the_windows(golden):
    model, _ = vjx.load_pretrained(golden(BOTH))
    assert (model.window_size, model.windowed, model.num_heads) == (3, (0, 2), 3)
    assert (model.image_size, model.position_size, model.preprocessing.size) == (64, 32, 64)
    assert (model.pool, model.final_norm, model.relative_bias) == ("grid", False, "decomposed")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "window_size: the weights don't tell which blocks attend within windows; pass"),
        ({"window_size": 3}, "window_blocks: the weights don't tell which they are"),
        ({**WINDOWS, "window_size": 4}, "shapes that disagree: .*attention.rel_pos_h: found"),
        (
            {**WINDOWS, "conv_blocks": (1,)},
            "not used: .*residual.conv",
        ),
    ],
)
def test_what_nobody_says_is_asked_for(golden, given, message):
    with pytest.raises(ValueError, match=message):
        vjx.load_pretrained(golden(CONVOLUTIONS), **given)


def test_back_to_either_publishers_names(golden):
    table, wanted = "embeddings.position_embeddings", golden(CONVOLUTIONS)
    model, variables = vjx.load_pretrained(wanted, **WINDOWS)
    assert model.conv_blocks == (1, 3)
    state = to_publisher_names(variables, "vitdet", "huggingface")
    assert state.keys() == wanted.keys()
    for name in state:
        unread = name == table  # the class token's row, which comes back as zeros
        found, theirs = ((x[:, 1:] if unread else x) for x in (state[name], wanted[name]))
        np.testing.assert_array_equal(found, theirs)
    state = to_publisher_names(variables, "vitdet")
    assert state["pos_embed"].shape == (1, 17, 48) and "blocks.0.attn.rel_pos_h" in state
    state = {f"backbone.net.{name}": array for name, array in state.items()}
    again = vjx.load_pretrained(state, **WINDOWS)[1]
    jax.tree.map(np.testing.assert_array_equal, again, variables)


@pytest.mark.parametrize(
    "config",
    [
        {"window_size": 3, "window_block_indices": [0, 2]},
        {"window_size": 2, "window_block_indices": [0, 1], "residual_block_indices": [1]},
        {"image_size": [64, 32], "hidden_act": "gelu_new", "qkv_bias": False},
        {"use_relative_position_embeddings": False, "window_size": 3, "window_block_indices": [1]},
    ],
)
def test_transformers_compute_the_same(tmp_path, config):
    """From its own folders, at the native size and at others."""
    torch, transformers = library("torch"), library("transformers")
    config = transformers.VitDetConfig(
        **{
            "hidden_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 3,
            "mlp_ratio": 2,
            "pretrain_image_size": 32,
            "image_size": 64,
            "patch_size": 8,
            "use_relative_position_embeddings": True,
            "initializer_range": 0.2,
            **config,
        }
    )
    torch.manual_seed(0)
    reference = transformers.VitDetBackbone(config).eval()
    reference.save_pretrained(tmp_path)
    model, variables = vjx.load_pretrained(tmp_path)
    for height, width in ((64, 64), (40, 72)):
        images = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
        with torch.no_grad():
            wanted = reference(torch.tensor(images.transpose(0, 3, 1, 2))).feature_maps[-1]
        found = jax.jit(model.apply)(variables, images)
        wanted = wanted.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())


def test_a_base_network_is_as_large_as_published():
    """With the rows of class tokens, which detectron2 keeps, and without tables of offsets."""
    shapes = variable_shapes(vjx.create_model("vitdet_base_patch16"))["params"]
    found = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    plain = variable_shapes(vjx.create_model("vit_base_patch16", num_classes=0))["params"]
    whole = sum(leaf.size for leaf in jax.tree.leaves(plain))
    offsets = 2 * 64 * (8 * (2 * 14 - 1) + 4 * (2 * 64 - 1))
    assert found == whole - 2 * 768 - 2 * 768 + offsets  # no class token, its position, last norm
