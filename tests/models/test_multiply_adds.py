"""Multiply-adds: the published counts, closed formulas, the same whatever runs."""

import jax
import jax.numpy as jnp
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.filter import convolution
from vit_jax_xfer.models.lifting.joint_bilateral import JointBilateral
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


# In the authors' code, in millions: (width, patch): at 112, 224 and 448 pixels.
LIFT = {
    (384, 8): (722.6, 2890.5, 11562.2),
    (384, 16): (188.1, 752.4, 3009.8),
    (768, 8): (2704.8, 10819.1, 43276.6),
    (768, 16): (683.6, 2734.6, 10938.4),
}


@pytest.mark.parametrize(("width", "patch"), LIFT)
def test_a_lifts_published_counts(width, patch):
    model = vjx.create_model(f"lift_patch{patch}", width=width)
    for size, expected in zip((112, 224, 448), LIFT[width, patch], strict=True):
        assert abs(multiply_adds(model, size) / 1e6 - expected) < 0.06


def test_weights_of_neighbours_count_as_attention():
    model = vjx.create_model("convex_lift_patch16", width=48, radius=1, key_width=20)
    counts = multiply_adds_by_kind(model, (32, 64))
    cells, window = 4 * 2 * 4, 9
    assert counts["attention"] == cells * window * (48 + 20)
    assert counts["linear"] == counts["scoring"] == 0
    # Image branch; features, keys; queries, offsets, the convolution before them.
    image = 16 * 32 * 27 * 32 + 8 * 16 * 288 * 32 + 8 * 288 * 32
    coarse, fine = 8 * (48 * 64 + 96 * 20), cells * (64 * 20 + 64 * window + 9 * 96 * 64)
    assert counts["convolution"] == image + coarse + fine
    assert multiply_adds(model, (32, 64), batch=3) == 3 * sum(counts.values())
    bilateral = JointBilateral(patch_size=16, radius=1, width=48)
    assert multiply_adds_by_kind(bilateral, (32, 64)) == {
        **dict.fromkeys(KINDS, 0),
        "attention": cells * window * (48 + 4),
    }


def test_the_successor_takes_less():
    small, large = (vjx.create_model(f"{name}_patch16") for name in ("convex_lift", "lift"))
    assert multiply_adds(small, 224) == 104_165_376
    assert multiply_adds(small, 224) < multiply_adds(large, 224) / 7


def test_what_a_count_needs_to_know():
    with pytest.raises(ValueError, match="image_size: a LiFT has none of its own; pass one"):
        multiply_adds(vjx.create_model("lift_patch16"))
    with pytest.raises(ValueError, match="width: None is any"):
        multiply_adds(JointBilateral(), 224)


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
