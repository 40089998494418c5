"""random_erasing and the ops of colour: shares, modes, chances, what is refused."""

import numpy as np
import pytest

from vit_jax_xfer.data import parse_pipeline
from vit_jax_xfer.data.random_erasing import RandomErasing


def erased(**fields):
    """Images of ones after the op, 500 of them, and where they were erased."""
    op, rng = RandomErasing(**fields), np.random.default_rng(0)
    images = np.stack([op(np.ones((20, 30, 3), np.float32), rng) for _ in range(500)])
    return images, (images != 1).any(-1)


def test_the_chance_and_the_share():
    images, where = erased()
    assert images.dtype == np.float32
    touched = where.any((1, 2))
    assert abs(touched.mean() - 0.25) < 0.05
    shares = where[touched].mean((1, 2))
    assert shares.min() > 0.01 and shares.max() < 0.36  # 2 % to a third, but for rounding
    assert abs(shares.mean() - (0.02 + 1 / 3) / 2) < 0.03


def test_one_box():
    _, where = erased(probability=1.0)
    for one in where:
        rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        assert one[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert one.sum() == len(rows) * len(columns)


def test_modes():
    noise, where = erased(probability=1.0, mode="pixel")
    values = noise[where]
    assert abs(values.mean()) < 0.02 and abs(values.std() - 1) < 0.02
    colours, where = erased(probability=1.0, mode="rand")
    for image, one in zip(colours[:50], where, strict=False):
        assert len(np.unique(image[one], axis=0)) == 1
    zeros, where = erased(probability=1.0, mode="const")
    assert not zeros[where].any()


def test_several_boxes_share_the_area():
    _, one = erased(probability=1.0)
    _, several = erased(probability=1.0, count=(2, 4))
    assert several.mean() < one.mean() * 1.05


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ("random_erasing(1.5)", "probability: got 1.5, expected a number from 0 to 1"),
        ("random_erasing(mode='noise')", "mode: got 'noise', expected one of pixel, rand, const"),
        ("random_erasing(count=0)", "count: got 0"),
        ("random_erasing(count=(3, 2))", r"count: got \(3, 2\)"),
        ("random_erasing(area=0.3)", "area: got 0.3"),
        ("random_erasing(area=(0.5, 0.1))", "area: .* the least before the most"),
        ("random_erasing(ratio=0)", "ratio: got 0"),
        ("gray_scale(2)", "probability: got 2"),
        ("solarize(300)", "threshold: got 300"),
        ("gaussian_blur(2)", "radius: got 2"),
        ("gaussian_blur((2, 1))", "radius: .* the least before the most"),
        ("three_augment(1)", "three_augment"),
    ],
)
def test_what_makes_no_sense_is_refused(op, message):
    with pytest.raises(ValueError, match=message):
        parse_pipeline(op)


def after(op, image, seed=0):
    return parse_pipeline(op)({"image": image}, np.random.default_rng(seed))["image"] * 255


def test_ops_of_colour():
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    gray = after("gray_scale", image)
    assert (gray[..., :1] == gray).all()
    np.testing.assert_allclose(after("solarize", image), np.where(image < 128, image, 255 - image))
    assert after("gaussian_blur", image).std() < image.std()
    for op in ("gray_scale(0)", "solarize(128, 0)", "gaussian_blur((1, 2), 0)"):
        np.testing.assert_allclose(after(op, image), image)


def test_three_augment_is_one_of_three():
    image = np.random.default_rng(1).integers(0, 256, (16, 16, 3), np.uint8)
    kinds = []
    for seed in range(300):
        found = after("three_augment", image, seed)
        gray = np.allclose(found[..., :1], found)
        solarized = np.allclose(found, np.where(image < 128, image, 255 - image))
        kinds.append("gray" if gray else "solarized" if solarized else "blurred")
    assert all(abs(kinds.count(kind) / 300 - 1 / 3) < 0.1 for kind in set(kinds))
    assert len(set(kinds)) == 3
