"""Keypoints: against features interpolated to every pixel in float64, and the counting."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.evaluate.correspondence.keypoint_matching import Matches, pck, pck_score


def at_pixel(features, y, x, size):
    """Bilinear interpolation at the centre of a pixel, positions beyond cells' centres clamped."""
    value = 0.0
    places = []
    for pixel, cells, pixels in zip((y, x), features.shape, size, strict=False):
        where = min(max((pixel + 0.5) * cells / pixels - 0.5, 0), cells - 1)
        first = int(where)
        places.append(((first, 1 - where + first), (min(first + 1, cells - 1), where - first)))
    for v, part_v in places[0]:
        for u, part_u in places[1]:
            value = value + part_v * part_u * features[v, u]
    return value


def slow(source, target, points, size):
    """The published protocol: unit features, interpolated; each point's products, (N, H, W)."""
    source, target = (
        f.astype(np.float64) / np.linalg.norm(f, axis=-1, keepdims=True) for f in (source, target)
    )
    pixels = [(y, x) for y in range(size[0]) for x in range(size[1])]
    large = np.array([at_pixel(target, y, x, size) for y, x in pixels])
    found = [large @ at_pixel(source, math.floor(y), int(x), size) for x, y in points]
    return np.array(found).reshape(-1, *size)


def features(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [(32, 32), (21, 40), (5, 6), (3, 4)])
def test_the_published_protocol(size):
    # Smooth maps have their best pixels away from cells' centres; two grids, 35 points.
    source = features(5, 6, 4)
    target = features(4, 7, 4, seed=1) + 1
    points = np.random.default_rng(2).random((35, 2)) * (size[1], size[0])
    points = points.astype(np.float32)
    products = slow(source, target, points, size)
    correct, predicted = found = pck(source, target, points, points, size, 0.25)
    assert isinstance(found.correct, jax.Array) and isinstance(found.predicted, jax.Array)
    # The pixel of the largest product, or one that float32 can't tell from it.
    x, y = np.asarray(predicted).astype(int).T
    np.testing.assert_array_equal(predicted, np.stack([x, y], 1))
    best = products.max(axis=(1, 2))
    np.testing.assert_allclose(products[np.arange(35), y, x], best, rtol=0, atol=1e-6)
    error = np.linalg.norm(predicted - points, axis=1)
    np.testing.assert_array_equal(correct, error < 0.25 * max(size))
    assert 0 < correct.sum() < 35 or max(size) < 7


def test_cells():
    source = features(3, 5, 16)
    order = np.random.default_rng(1).permutation(15)
    target = source.reshape(15, 16)[order].reshape(5, 3, 16) * 7
    size = (60, 100)
    y, x = np.mgrid[0:3, 0:5]
    corners = np.stack([x.ravel() * 20.0, y.ravel() * 20.0], 1)
    there = np.argsort(order)
    centres = np.stack([(there % 3 + 0.5) * 100 / 3, (there // 3 + 0.5) * 12], 1)
    for offset in (0, 10, np.nextafter(np.float32(20), np.float32(0)) - 1e-5):
        found = pck(source, target, corners + offset, centres, size, 0.01, upsample=False)
        np.testing.assert_allclose(found.predicted, centres, rtol=1e-6)
        assert found.correct.all()
    # The last pixel's far edge, where a product may round up to the next cell.
    edge = np.nextafter(np.float32([[100, 60]]), np.float32(0))
    found = pck(source, target, edge, centres[-1:], size, 0.01, upsample=False)
    assert found.correct.all()


def test_identical_images_keep_their_keypoints():
    image = features(7, 7, 32)
    points = np.random.default_rng(0).random((20, 2)) * 112
    found = pck(image, image, points, points, 112, 0.21)  # a cell's diagonal
    assert found.correct.all()
    assert not found.skipped.any()


def test_thresholds():
    image = features(4, 4, 32)
    start = jnp.array([[8.0, 8.0]])
    at = pck(image, image, start, start, (32, 64), 0.5).predicted
    aims = at + jnp.array([[3.0, 4.0]])  # five pixels off

    def correct(*arguments):
        return bool(pck(image, image, start, aims, (32, 64), *arguments).correct[0])

    assert not correct(5) and correct(5.01)  # pixels; strictly less
    assert not correct(5 / 64) and correct(5.01 / 64)  # parts of the longer side
    assert not correct(0.1, 50) and correct(0.1, 50.1)  # parts of a box
    assert not correct(1, 5) and correct(1.01, 5)
    assert not correct(0.9, 1) and correct(5.1, 1)  # pixels, small ones as well
    both = pck(
        image, image, start.repeat(2, 0), aims.repeat(2, 0), (32, 64), 0.1, np.array([40, 60])
    )
    assert both.correct.tolist() == [False, True]


@pytest.mark.parametrize("upsample", [True, False])
def test_points_outside_are_counted(upsample):
    image = features(4, 4, 8)
    inside = [[0.0, 0.0], [31.9, 15.9], [5, 5]]
    outside = [[-0.1, 3], [32, 3], [3, 16], [np.nan, 3], [3, -np.inf]]
    source = np.array(inside + outside + [[5, 5]] * 5)
    target = np.array(inside + [[5, 5]] * 5 + outside)
    found = pck(image, image, source, target, (16, 32), 100.0, upsample=upsample)
    np.testing.assert_array_equal(found.skipped, [False] * 3 + [True] * 10)
    np.testing.assert_array_equal(found.correct, ~np.asarray(found.skipped))
    assert np.isnan(found.predicted[3:]).all()


def test_no_points():
    for nothing in (np.zeros((0, 2)), []):
        found = pck(features(2, 2, 3), features(2, 2, 3), nothing, nothing, 8, 0.1)
        assert found.correct.shape == (0,) and found.predicted.shape == (0, 2)


def test_scores_of_groups():
    def matches(correct, skipped=0):
        predicted = np.zeros((len(correct) + skipped, 2))
        predicted[len(correct) :] = np.nan
        return Matches(jnp.array(correct + [False] * skipped, bool), jnp.array(predicted))

    score = pck_score(
        {
            "cat": [matches([True, True, True]), matches([False], skipped=2)],
            "dog": [matches([False, True])],
            "cow": [matches([], skipped=1)],
            "hen": [],
        }
    )
    assert score.groups["cat"] == 0.75 and score.groups["dog"] == 0.5
    assert math.isnan(score.groups["cow"]) and math.isnan(score.groups["hen"])
    assert score.mean == 0.625
    assert score.pooled == pytest.approx(4 / 6)
    assert (score.evaluated, score.skipped) == (6, 3)
    assert math.isnan(pck_score({}).mean)


def test_features_never_exist_for_pixels():
    # 448 pixels, 384 channels: 308 MB an image, were they interpolated.
    from vit_jax_xfer.evaluate.correspondence.keypoint_matching import _match

    maps = [jax.ShapeDtypeStruct((112, 112, 384), jnp.float32)] * 2
    points = [jax.ShapeDtypeStruct((64, 2), jnp.float32)] * 2
    memory = _match.lower(*maps, *points, size=(448, 448), upsample=True).compile()
    assert memory.memory_analysis().temp_size_in_bytes < 80e6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_features": features(4, 4, 7)}, "target_features: got 7, source_features' C"),
        ({"source_features": np.full((2, 2, 8), np.nan)}, "source_features: 32 of 32 values"),
        ({"target_points": np.ones((3, 2))}, "target_points: got 3, source_points has 2"),
        ({"source_points": np.ones((2, 3))}, "source_points: got 3, a point .x, y. has 2"),
        ({"image_size": (3, 3, 3)}, "image_size: expected a number or .H, W."),
        ({"image_size": 0}, "image_size: got 0, expected a whole number from 1 on"),
        ({"image_size": (8, 7.5)}, "image_size: got 7.5, expected a whole number from 1 on"),
        ({"threshold": np.ones(3)}, "threshold: expected a number or one for each of 2"),
        ({"threshold": np.ones(2)}, "reference: needed where each point has its own threshold"),
        ({"reference": np.ones(3)}, "reference: expected a number or one for each of 2"),
    ],
)
def test_bad_input_is_named(change, message):
    arguments = {
        "source_features": features(4, 4, 8),
        "target_features": features(4, 4, 8),
        "source_points": np.ones((2, 2)),
        "target_points": np.ones((2, 2)),
        "image_size": 32,
        "threshold": 0.1,
    }
    with pytest.raises(ValueError, match=message):
        pck(**arguments | change)
