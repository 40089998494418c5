"""ViTs out of JAX: AugReg, big_vision and FLIP, written here from the same weights in timm's names.

Their layouts are Flax's: kernels (in, out), convolutions (h, w, in, out), heads apart.
"""

import numpy as np
import pytest

from tests.outputs import assert_same, assert_same_network, prefixed, renamed
from vit_jax_xfer.models.transformer.positions import sincos_2d
from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.file_to_model import load_on_host

HEADS = 3
CORNERS = {"position_resize": "bilinear_corners", "drop_remainder": True}


def dense(name, state, theirs):
    return {
        f"{name}/kernel": state[f"{theirs}.weight"].T,
        f"{name}/bias": state[f"{theirs}.bias"],
    }


def norm(name, state, theirs):
    return {f"{name}/scale": state[f"{theirs}.weight"], f"{name}/bias": state[f"{theirs}.bias"]}


def attention(name, weights, biases, proj):
    flax = {}
    for part, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        flax[f"{name}/{part}/kernel"] = weight.T.reshape(48, HEADS, 16)
        flax[f"{name}/{part}/bias"] = bias.reshape(HEADS, 16)
    flax[f"{name}/out/kernel"] = proj[0].T.reshape(HEADS, 16, 48)
    return {**flax, f"{name}/out/bias": proj[1]}


def affine(state, *names):
    return [(state[f"{name}.weight"], state[f"{name}.bias"]) for name in names]


def flax(state):
    """timm's names → big_vision's."""
    arrays = {
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "pos_embedding": state["pos_embed"],
        **norm("Transformer/encoder_norm", state, "norm"),
    }
    if "cls_token" in state:
        arrays["cls"] = state["cls_token"]
    if "head.weight" in state:
        arrays |= dense("head", state, "head")
    for i in range(3):
        block, theirs = f"Transformer/encoderblock_{i}", f"blocks.{i}"
        ((weight, bias),) = affine(state, f"{theirs}.attn.qkv")
        (proj,) = affine(state, f"{theirs}.attn.proj")
        name = f"{block}/MultiHeadDotProductAttention_0"
        arrays |= attention(name, np.split(weight, 3), np.split(bias, 3), proj)
        for n in range(2):
            arrays |= norm(f"{block}/LayerNorm_{n}", state, f"{theirs}.norm{n + 1}")
            arrays |= dense(f"{block}/MlpBlock_0/Dense_{n}", state, f"{theirs}.mlp.fc{n + 1}")
    if "attn_pool.latent" in state:
        pool = "attn_pool"
        arrays["MAPHead_0/probe"] = state[f"{pool}.latent"]
        q, kv, proj = affine(state, f"{pool}.q", f"{pool}.kv", f"{pool}.proj")
        weights, biases = ([one, *np.split(both, 2)] for one, both in zip(q, kv, strict=True))
        name = "MAPHead_0/MultiHeadDotProductAttention_0"
        arrays |= attention(name, weights, biases, proj)
        arrays |= norm("MAPHead_0/LayerNorm_0", state, f"{pool}.norm")
        for n in range(2):
            arrays |= dense(f"MAPHead_0/MlpBlock_0/Dense_{n}", state, f"{pool}.mlp.fc{n + 1}")
    return arrays


def stacked(arrays):
    """encoderblock_0/…, encoderblock_1/… → encoderblock/… with a leading axis over blocks."""
    groups = {}
    for name, x in arrays.items():
        before, block, after = name.partition("encoderblock_")
        key = f"{before}encoderblock/{after.partition('/')[2]}" if block else name
        groups.setdefault(key, []).append(x)
    return {k: np.stack(x) if "encoderblock/" in k else x[0] for k, x in groups.items()}


def test_augreg(golden, tmp_path):
    state = golden("timm/supervised_cls")
    arrays = renamed(
        flax(state),
        ("^pos_embedding$", "Transformer/posembed_input/pos_embedding"),
        ("LayerNorm_1/", "LayerNorm_2/"),
        ("MlpBlock_0/", "MlpBlock_3/"),
        ("MultiHeadDotProductAttention_0/", "MultiHeadDotProductAttention_1/"),
    )
    np.savez(tmp_path / "a.npz", **arrays)
    assert_same_network(tmp_path / "a.npz", state, "supervised", **CORNERS)
    optimizer = prefixed("opt/target/", arrays)
    assert_same_network({**optimizer, "opt/state/step": np.ones(1)}, state, "supervised", **CORNERS)
    # Heads lie apart, so their number is in the file.
    model, _ = load_pretrained(arrays)
    assert model.num_heads == 3
    with pytest.raises(ValueError, match="num_heads: got 4, but the file has 3"):
        load_pretrained(arrays, num_heads=4)
    # The files of 21 thousand classes.
    logits = {"pre_logits/kernel": np.eye(48) + 1, "pre_logits/bias": np.arange(48.0)}
    model, variables = load_pretrained({**arrays, **logits})
    assert model.pre_logits
    found = variables["params"]["representation"]["kernel"]
    np.testing.assert_array_equal(found, logits["pre_logits/kernel"])


@pytest.mark.parametrize("layout", [dict, stacked])
def test_big_vision(golden, layout):
    state = golden("timm/supervised_cls")
    file = prefixed("params/", layout(flax(state)))
    assert_same_network(file, state, "supervised", **CORNERS)


@pytest.mark.parametrize("layout", [dict, stacked])
def test_siglip_and_its_text_tower(golden, layout):
    state = golden("timm/siglip_map")
    image = flax(state)
    text = {"Embed_0/embedding": np.ones((60, 48)), "pos_embedding": np.ones((1, 8, 48))}
    blocks = {k: x + 1 for k, x in image.items() if k.startswith("Transformer/")}
    text |= renamed(blocks, ("^Transformer", "Encoder_0"))
    whole = {**prefixed("img/", layout(image)), **prefixed("txt/", layout(text))}
    whole |= {"t": np.ones(1), "b": np.ones(1)}
    fields = {**CORNERS, "activation": "gelu_tanh"}
    assert_same_network(prefixed("params/", whole), state, "siglip", **fields)
    assert_same_network(layout(image), state, "siglip", **fields)


def test_flip(golden):
    """Fixed positions, two-digit blocks, and the mean of all tokens as the result."""
    state = golden("timm/supervised_cls")
    state["pos_embed"] = sincos_2d((4, 4), 48)
    del state["head.bias"]
    arrays = flax({**state, "head.bias": np.zeros(10)})
    del arrays["head/bias"]
    arrays = renamed(
        arrays,
        ("encoderblock_", "encoderblock_0"),
        ("^pos_embedding$", "posembed_encoder/pos_embedding"),
    )
    image = renamed(prefixed("img_encoder/", arrays), ("^img_encoder/head/", "img_mlp1/"))
    text = {
        "txt_encoder/Transformer/encoderblock_00/LayerNorm_0/scale": np.ones(48),
        "txt_mlp1/kernel": np.ones((48, 10)),
        "logit_scale": np.ones(()),
    }
    model, variables, found = load_on_host({**image, **text})
    assert (found.family.name, model.pool, model.norm_after_pool) == ("flip", "avg_all", False)
    assert (model.activation, model.num_classes, model.head_bias) == ("gelu_tanh", 10, False)
    assert_same(variables, load_pretrained(state, num_heads=3)[1])
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    out = model.apply(variables, images, method="forward")
    np.testing.assert_allclose(out.pooled, out.tokens.mean(axis=1), rtol=1e-5, atol=1e-6)
    headless = {k: x for k, x in image.items() if not k.startswith("img_mlp1/")}
    assert load_on_host(headless)[2].family.name == "flip"
