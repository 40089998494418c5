"""Windows over an image: where they lie, how their logits are joined."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.dense.sliding_window import sliding_logits, window_starts


def minus_its_mean(weights):
    return lambda crops: (crops - crops.mean(axis=(1, 2), keepdims=True)) @ weights


def test_windows_are_the_references(golden_case):
    case = golden_case("dense/seg/sliding_window")
    crop, stride = case.meta["crop"], case.meta["stride"]
    image = jnp.asarray(case.arrays["image"])
    height, width = image.shape[:2]
    assert window_starts(height, crop, stride) == case.meta["y"]
    assert window_starts(width, crop, stride) == case.meta["x"]
    model = minus_its_mean(jnp.asarray(case.arrays["W"]))
    images = jnp.stack([image, image[::-1]])  # 24 windows; 5 at once leave a batch to be filled
    logits = sliding_logits(model, images, (crop, crop), (stride, stride), batch=5)
    found = logits[0, ::3, ::3]
    np.testing.assert_allclose(found, case.arrays["logits"], rtol=2e-5, atol=2e-5)


def test_a_small_image_is_one_window_and_its_padding_is_left_out():
    images = jax.random.normal(jax.random.key(0), (2, 5, 9, 3))
    logits = sliding_logits(lambda x: x[..., :2], images, (8, 8), (8, 8))
    np.testing.assert_allclose(logits, images[..., :2])
    assert window_starts(9, 8, 8) == [0, 1] and window_starts(5, 8, 8) == [0]


def test_windows_end_with_what_is_no_border():
    """As of each photograph by itself: what a border shows says nothing of its pixels."""
    model = minus_its_mean(jax.random.normal(jax.random.key(1), (3, 4)))
    canvas = jax.random.normal(jax.random.key(0), (3, 20, 26, 3))
    sides = [(12, 19), (20, 9), (20, 26)]
    given = jnp.array([*sides], jnp.float32)
    for batch in (0, 4):
        found = sliding_logits(model, canvas, (8, 8), (5, 5), batch, content=given)
        for image, logits, (height, width) in zip(canvas, found, sides, strict=True):
            alone = image[None, :height, :width]
            (wanted,) = sliding_logits(model, alone, (8, 8), (5, 5))
            np.testing.assert_allclose(logits[:height, :width], wanted, rtol=1e-5, atol=1e-6)
            assert not logits[height:].any() and not logits[:, width:].any()


def test_strides_that_leave_pixels_out_are_refused():
    with pytest.raises(ValueError, match="stride: got 9, expected from 1 to .* 8"):
        window_starts(20, 8, 9)
