"""color_jitter: pixels equal to torchvision's, what is drawn, forms of images, error texts."""

import pickle
import zlib

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import parse_pipeline
from vit_jax_xfer.data.color_jitter import ColorJitter, adjust

# torchvision 0.28.0's adjust_brightness, … on `picture()` by these factors: CRC-32 of all bytes.
REFERENCE = {
    ("brightness", 0.0): 0x0FE6C9A5,
    ("brightness", 0.8): 0xE2DDFE6D,
    ("brightness", 1.0): 0x87092FFE,
    ("brightness", 1.17): 0xE8676A6D,
    ("brightness", 2.5): 0x5EC6C22D,
    ("contrast", 0.0): 0x4EEEB152,
    ("contrast", 0.8): 0x704ACF15,
    ("contrast", 1.0): 0x87092FFE,
    ("contrast", 1.17): 0x7AD6B0F9,
    ("contrast", 2.5): 0x0D81E46B,
    ("saturation", 0.0): 0x4B4AC31F,
    ("saturation", 0.8): 0xB3CB1E76,
    ("saturation", 1.0): 0x87092FFE,
    ("saturation", 1.17): 0x94AE5327,
    ("saturation", 2.5): 0x65D3ACF2,
    ("hue", -0.5): 0x1A9ED730,
    ("hue", -0.2): 0x2998684C,
    ("hue", -0.05): 0x219388F3,
    ("hue", 0.0): 0x903B1CB5,
    ("hue", 0.1): 0x946FD16B,
    ("hue", 0.5): 0x3E1CD472,
}


def picture():
    """40 x 56 pixels of edges, slopes and texture, levels 20 to 209."""
    y, x = np.mgrid[:40, :56]
    edges = 90 + 40 * np.sign(x - 20) * np.sign(y - 25) + (x * x + y) % 29
    planes = (3 * x + 2 * y, 5 * y + x * y // 7, edges)
    return Image.fromarray(np.stack([20 + p % 190 for p in planes], -1).astype(np.uint8))


@pytest.mark.parametrize(("name", "amount"), REFERENCE)
def test_pixels_of_each_property(name, amount):
    result = np.asarray(adjust(picture(), name, amount))
    assert zlib.crc32(result.tobytes()) == REFERENCE[name, amount]


def test_draws_are_uniform_between_their_bounds_and_in_every_order(monkeypatch):
    from vit_jax_xfer.data import color_jitter

    calls = []
    monkeypatch.setattr(
        color_jitter, "adjust", lambda image, name, x: calls.append((name, x)) or image
    )
    jitter, rng = ColorJitter(0.4, 1.5, 0.2, 0.1), np.random.default_rng(0)
    for _ in range(2000):
        jitter(picture(), rng)
    bounds = {"brightness": (0.6, 1.4), "contrast": (0, 2.5), "saturation": (0.8, 1.2)}
    for name, (low, high) in {**bounds, "hue": (-0.1, 0.1)}.items():
        drawn = np.array([x for called, x in calls if called == name])
        assert len(drawn) == 2000 and low <= drawn.min() and drawn.max() <= high
        middle, spread = (low + high) / 2, (high - low) / 12**0.5
        assert abs(drawn.mean() - middle) < 0.1 * spread
        assert drawn.std() == pytest.approx(spread, rel=0.05)
    orders = {tuple(name for name, _ in calls[i : i + 4]) for i in range(0, len(calls), 4)}
    assert len(orders) == 24


def test_what_is_0_is_left_out_and_changes_no_other_draw():
    image = picture()
    assert ColorJitter()(image, np.random.default_rng(0)) is image
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    ColorJitter(hue=0.1)(image, one), ColorJitter(0.2, 0.2, 0.2)(image, other)
    assert one.random() == other.random()


def test_in_a_pipeline():
    pipeline = parse_pipeline("color_jitter(0.2, 0.2, 0.2, hue=0.2)|normalize")
    example = {"image": np.asarray(picture()), "label": 1}
    first, again = (pipeline(example, np.random.default_rng(7))["image"] for _ in range(2))
    assert first.shape == (40, 56, 3) and first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert (pipeline(example, np.random.default_rng(8))["image"] != first).any()
    pickle.loads(pickle.dumps(ColorJitter(0.1)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("-0.1", "brightness: got -0.1, expected a number of 0 or more"),
        ("0.1, 'x'", "contrast: got 'x', expected a number of 0 or more"),
        ("hue=0.6", "hue: got 0.6, expected a number from 0 to 0.5"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        parse_pipeline(f"color_jitter({fields})")
