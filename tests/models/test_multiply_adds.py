"""Multiply-adds: the published counts, closed formulas, the same whatever runs."""

import jax
import jax.numpy as jnp
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.filter import convolution
from vit_jax_xfer.models.multiply_adds import (
    KINDS,
    count,
    multiply_adds,
    multiply_adds_by_kind,
)

# Counted in the authors' code with 100 classes at 224 pixels, in millions; the total in thousands
# of millions. Convolutions, linear layers, products of attention, convolutions that score.
PUBLISHED = {
    "filter_vit_xxs": ((596.9, 179.4, 210.7, 26.4), 1.013),
    "filter_vit_xs": ((1165.9, 142.4, 41.9, 28.8), 1.379),
    "dropout_vit_xs": ((1165.9, 142.4, 41.9, 0.0), 1.350),
    "filter_vit_s": ((2424.4, 559.1, 159.2, 47.8), 3.190),
    "filter_vit_s2": ((2270.4, 326.8, 167.8, 44.1), 2.809),
}
MICRO = {"image_size": 8, "num_classes": 10}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_counts(name):
    counts = multiply_adds_by_kind(vjx.create_model(name, num_classes=100))
    split, total = PUBLISHED[name]
    assert tuple(counts) == KINDS
    for number, expected in zip(counts.values(), split, strict=True):
        assert abs(number / 1e6 - expected) < 0.1
    assert round(sum(counts.values()) / 1e9, 3) == total


def test_the_published_counts_at_256_pixels():
    for name, expected in (("filter_vit_xs", 1.496), ("dropout_vit_xs", 1.468)):
        model = vjx.create_model(name, num_classes=100, stem_grid=110)
        assert round(multiply_adds(model, 256) / 1e9, 3) == expected


def test_the_same_on_every_backend(monkeypatch):
    model = vjx.create_model("filter_vit_xs", num_classes=10)
    shifted = multiply_adds_by_kind(model, 64)
    monkeypatch.setattr(convolution.jax, "default_backend", lambda: "gpu")  # grouped convolutions
    assert multiply_adds_by_kind(model.clone(dtype=jnp.bfloat16), 64) == shifted


def _vit(width: int, depth: int, tokens: int, patches: int, inputs: int, classes: int) -> int:
    """The closed formula: qkv, projection, MLP; two products; patches; the head."""
    linear = depth * tokens * 12 * width**2 + patches * inputs * width + width * classes
    return linear + depth * 2 * tokens**2 * width


def test_a_vit_by_its_formula():
    model = vjx.create_model("vit_base_patch16")
    expected = _vit(768, 12, 197, 196, 16 * 16 * 3, 1000)
    assert multiply_adds(model) == expected == 17_563_828_224
    assert multiply_adds(model, batch=3) == 3 * expected
    # Positions are resized there, which is no work on images.
    assert multiply_adds(model, (224, 384)) == _vit(768, 12, 14 * 24 + 1, 14 * 24, 768, 1000)


@pytest.mark.parametrize(
    "fields",
    [
        {"scan": True},
        {"remat": "full"},
        {"remat": "dots"},
        {"scan": True, "remat": "full"},
        {"attention": "blockwise"},
        {"attention": "cudnn", "dtype": jnp.bfloat16},
    ],
    ids=str,
)
def test_the_same_however_it_runs(fields):
    expected = _vit(64, 4, 17, 16, 12, 10)
    assert multiply_adds(vjx.create_model("vit_micro_patch2", **MICRO, **fields)) == expected


def test_a_masked_autoencoder_sees_a_quarter():
    model = vjx.create_model("mae_vit_micro_patch2", image_size=8)
    encoder = _vit(64, 4, 5, 16, 12, 0)
    decoder = _vit(48, 2, 17, 0, 0, 0) + 5 * 64 * 48 + 17 * 48 * 12
    assert multiply_adds(model) == encoder + decoder
    assert multiply_adds(model.encoder) == _vit(64, 4, 17, 16, 12, 0)


def _total(function, *shapes):
    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return sum(count(jax.make_jaxpr(function)(*inputs).jaxpr).values())


def test_convolutions_and_control_flow():
    layout = ("NHWC", "HWIO", "NHWC")
    grouped = {"dimension_numbers": layout, "feature_group_count": 4}
    found = _total(
        lambda x, w: jax.lax.conv_general_dilated(x, w, (2, 2), "SAME", **grouped),
        (2, 8, 8, 12),
        (3, 3, 3, 8),
    )
    assert found == 2 * 4 * 4 * 8 * (3 * 3 * 3)
    transposed = _total(
        lambda x, w: jax.lax.conv_transpose(x, w, (2, 2), "VALID", dimension_numbers=layout),
        (2, 8, 8, 12),
        (3, 3, 12, 5),
    )
    assert transposed == 2 * 8 * 8 * 12 * 5 * 9
    product = 5 * 5 * 5
    branches = _total(
        lambda x: jax.lax.cond(x.sum() > 0, lambda x: x @ x, lambda x: x @ x @ x, x), (5, 5)
    )
    assert branches == 2 * product
    loop = _total(lambda x: jax.lax.fori_loop(0, 7, lambda i, y: y @ x, x), (5, 5))
    assert loop == 7 * product
    with pytest.raises(ValueError, match="a while loop with products"):
        _total(lambda x: jax.lax.while_loop(lambda y: y.sum() > 0, lambda y: y @ x, x), (5, 5))
