"""What a network writes when asked, and computes with when given; scanned or not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.collections import give_attention, stack_layers
from vit_jax_xfer.models.extract import extract
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks

# The shapes of the published cases: run op by op, equal shapes are compiled once for all files.
IMAGES = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
MODEL = VisionTransformer(
    image_size=32, patch_size=8, width=48, depth=3, num_heads=3, num_classes=10
)
SCANNED = MODEL.clone(scan=True)
BATCH, TOKENS, HEADS, DIM = 3, 17, 3, 16


def draw(seed):
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype), shapes)


@pytest.fixture(scope="module")
def variables():
    return draw(1)


@pytest.fixture(scope="module")
def outputs(variables):
    """Logits and collections of one pass."""
    return MODEL.apply(variables, IMAGES, mutable=["attention", "qkv", "residual"])


@pytest.mark.parametrize("model", [MODEL, SCANNED, MODEL.clone(remat="full")])
def test_initialisation_writes_parameters_alone(model):
    assert jax.eval_shape(model.init, jax.random.key(0), IMAGES).keys() == {"params"}


@pytest.mark.parametrize("wanted", [["attention"], ["qkv"], [], ["attention", "qkv", "residual"]])
def test_only_what_is_asked_for_is_written(variables, wanted):
    _, out = jax.eval_shape(lambda v: MODEL.apply(v, IMAGES, mutable=wanted), variables)
    assert set(out) == set(wanted)


@pytest.mark.parametrize("wanted", ["attention", "qkv", "residual"])
def test_asking_changes_no_output(variables, wanted):
    alone = MODEL.apply(variables, IMAGES)
    asked, _ = MODEL.apply(variables, IMAGES, mutable=[wanted])
    np.testing.assert_allclose(asked, alone, rtol=1e-5, atol=1e-5)


def test_values_and_layouts(outputs):
    _, out = outputs
    assert out["attention"].keys() == {"blocks_0", "blocks_1", "blocks_2"}
    for i in range(3):
        weights = out["attention"][f"blocks_{i}"]["attention"]["map"]
        assert weights.shape == (BATCH, HEADS, TOKENS, TOKENS)
        assert weights.dtype == jnp.float32
        np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)
        qkv = out["qkv"][f"blocks_{i}"]["attention"]
        assert {name: x.shape for name, x in qkv.items()} == dict.fromkeys(
            "qkv", (BATCH, TOKENS, HEADS, DIM)
        )
        # q and k come before the scale, with the bias.
        scores = np.einsum("bthd,bshd->bhts", qkv["q"], qkv["k"]) / np.sqrt(DIM)
        np.testing.assert_allclose(weights, jax.nn.softmax(scores), rtol=1e-4, atol=1e-6)


def test_scanned_equals_unscanned(variables, outputs):
    logits, out = outputs
    asked = ["attention", "qkv", "residual"]
    scanned, stacked = SCANNED.apply(stack_blocks(variables), IMAGES, mutable=asked)
    np.testing.assert_allclose(scanned, logits, rtol=1e-4, atol=1e-5)
    paths = [("attention", "map"), ("attention", "q"), ("attention", "v"), ("stream",)]
    for collection, path in zip(("attention", "qkv", "qkv", "residual"), paths, strict=True):
        for layers in (None, [2, 0], [-1]):
            got = stack_layers(stacked[collection], path, layers)
            indices = range(3) if layers is None else [layer % 3 for layer in layers]
            wanted = stack_layers(out[collection], path, indices)
            np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("scan", "heads"), [(False, None), (False, [2, 0]), (True, None), (True, [2, 0])]
)
@pytest.mark.parametrize("names", [("map",), ("q", "k"), ("v",)])
def test_given_values_are_used_where_they_are_given(variables, scan, heads, names):
    """The student's own record shows foreign values in the chosen layers and heads alone."""
    source = extract(MODEL, draw(2), IMAGES, attention=True, qkv=True)
    layers, chosen = [2, 0], list(range(HEADS)) if heads is None else heads
    foreign = {"map": source.attention, "q": source.q, "k": source.k, "v": source.v}
    given = give_attention(
        {name: [foreign[name][layer] for layer in layers] for name in names},
        layers,
        depth=3,
        num_heads=HEADS,
        heads=heads,
        scan=scan,
    )
    model, own = (SCANNED, stack_blocks(variables)) if scan else (MODEL, variables)
    logits, out = model.apply({**own, "given": given}, IMAGES, mutable=["attention", "qkv"])
    fused = model.apply({**own, "given": given}, IMAGES)
    np.testing.assert_allclose(fused, logits, rtol=1e-4, atol=1e-5)
    assert np.abs(logits - MODEL.apply(variables, IMAGES)).max() > 1e-3
    maps = stack_layers(out["attention"], ("attention", "map"))
    q, k = (stack_layers(out["qkv"], ("attention", name)) for name in "qk")
    usual = jax.nn.softmax(jnp.einsum("lbthd,lbshd->lbhts", q, k) / np.sqrt(DIM))
    for layer in range(3):
        for head in range(HEADS):
            replaced = layer in layers and head in chosen and "v" not in names
            wanted = source.attention if replaced else usual
            np.testing.assert_allclose(
                maps[layer, :, head], wanted[layer, :, head], rtol=1e-4, atol=1e-6
            )


def test_given_values_may_be_wide(variables):
    """A float32 map or query from the teacher does not widen a bfloat16 student."""
    source = extract(MODEL, variables, IMAGES, attention=True, qkv=True)
    narrow = MODEL.clone(dtype=jnp.bfloat16)
    for values in ({"map": source.attention}, {"q": source.q, "k": source.k}):
        given = give_attention(values, [0, 1, 2], depth=3, num_heads=HEADS, heads=None, scan=False)
        _, out = jax.eval_shape(
            lambda given: narrow.apply({**variables, "given": given}, IMAGES, mutable=["qkv"]),
            given,
        )
        assert {x.dtype for x in jax.tree.leaves(out)} == {jnp.dtype(jnp.bfloat16)}
