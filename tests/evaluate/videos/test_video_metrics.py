"""J and F against slow definitions: distances between all contour pixels, loops over pixels."""

import math

import numpy as np
import pytest
from scipy import ndimage

from vit_jax_xfer.evaluate.videos.video_metrics import (
    boundary_map,
    contour_accuracy,
    dilate,
    region_similarity,
)


def blobs(shape, seed, level=0.0):
    noise = np.random.default_rng(seed).standard_normal(shape)
    return ndimage.gaussian_filter(noise, shape[-1] / 12) > level


def slow_boundary(mask):
    """A pixel differs from its east, south or south-east neighbour, where it has one."""
    height, width = mask.shape
    result = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            for v, u in ((y, x + 1), (y + 1, x), (y + 1, x + 1)):
                if v < height and u < width and mask[y, x] != mask[v, u]:
                    result[y, x] = True
    return result


def slow_f(prediction, truth, pixels):
    """By the distance from each contour pixel to the nearest one of the other contour."""
    contours = [slow_boundary(prediction), slow_boundary(truth)]
    if not contours[0].any() and not contours[1].any():
        return 1.0
    if not contours[0].any() or not contours[1].any():
        return 0.0
    near = [ndimage.distance_transform_edt(~contour) <= pixels for contour in contours]
    precision = near[1][contours[0]].mean()
    recall = near[0][contours[1]].mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (6, 1), (23, 31)])
def test_boundaries(shape):
    mask = blobs(shape, 1) if min(shape) > 1 else np.arange(math.prod(shape)).reshape(shape) % 3 > 0
    np.testing.assert_array_equal(boundary_map(mask), slow_boundary(mask))


@pytest.mark.parametrize("radius", [1, 1.5, 2, 8])
def test_dilation_is_by_distance(radius):
    mask = np.random.default_rng(0).random((40, 50)) < 0.004
    mask[0, 0] = mask[39, 20] = True
    expected = ndimage.distance_transform_edt(~mask) <= radius
    np.testing.assert_array_equal(dilate(mask, radius), expected)


@pytest.mark.parametrize(
    ("shape", "tolerance"), [((60, 80), 0.008), ((33, 47), 0.05), ((60, 80), 3)]
)
def test_contour_accuracy(shape, tolerance):
    predictions = np.stack([blobs(shape, i) for i in range(4)])
    truths = np.stack([blobs(shape, i // 2, 0.01 * i) for i in range(4)])
    pixels = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*shape))
    expected = [slow_f(p, t, pixels) for p, t in zip(predictions, truths, strict=True)]
    assert 0 < min(expected) < max(expected)
    found = contour_accuracy(
        predictions.reshape(2, 2, *shape), truths.reshape(2, 2, *shape), tolerance
    )
    np.testing.assert_allclose(found, np.reshape(expected, (2, 2)), rtol=1e-6)


def test_a_frame_of_davis_has_a_tolerance_of_eight_pixels():
    truth = np.zeros((480, 854), bool)
    truth[100:300, 200:500] = True
    scores = [float(contour_accuracy(np.roll(truth, k, 1), truth)) for k in (8, 9)]
    # Of 1,000 pixels of contour the two sides, 200 each, are too far off; the corners help.
    assert scores[0] == 1
    assert 0.6 < scores[1] < 0.63


@pytest.mark.parametrize(
    ("prediction", "truth", "j", "f"),
    [
        ("empty", "empty", 1, 1),
        ("full", "empty", 0, 1),  # neither has a contour
        ("empty", "box", 0, 0),
        ("box", "empty", 0, 0),
        ("box", "box", 1, 1),
        ("far", "box", 0, 0),
    ],
)
def test_edges_of_the_definitions(prediction, truth, j, f):
    masks = {name: np.zeros((20, 20), bool) for name in ("empty", "full", "box", "far")}
    masks["full"][:] = masks["box"][2:6, 2:6] = masks["far"][14:18, 14:18] = True
    pair = masks[prediction], masks[truth]
    assert float(region_similarity(*pair)) == j
    assert float(contour_accuracy(*pair)) == f


def test_region_similarity():
    predictions, truths = np.stack([blobs((30, 40), i) for i in range(3)]), blobs((30, 40), 7)
    truths = np.broadcast_to(truths, predictions.shape)
    expected = [(p & t).sum() / (p | t).sum() for p, t in zip(predictions, truths, strict=True)]
    np.testing.assert_allclose(region_similarity(predictions, truths), expected, rtol=1e-6)


def test_bad_input_is_named():
    mask = np.zeros((4, 4), bool)
    with pytest.raises(ValueError, match="prediction: expected bool .*, got float32"):
        region_similarity(mask.astype(np.float32), mask)
    with pytest.raises(ValueError, match="prediction: got .4, 4., truth has .4, 5."):
        contour_accuracy(mask, np.zeros((4, 5), bool))
    with pytest.raises(ValueError, match="tolerance: expected more than 0"):
        contour_accuracy(mask, mask, tolerance=0)
