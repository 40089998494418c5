"""Masks to labels on a grid and back, held to Pillow; the queue of frames."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.evaluate.videos.label_grids import (
    grid_labels,
    mask_from_labels,
    nearest,
    propagate_video,
)
from vit_jax_xfer.evaluate.videos.label_propagation import propagate_labels


@pytest.mark.parametrize(
    ("old", "new"), [((480, 854), (112, 112)), ((112, 112), (480, 854)), ((7, 5), (14, 3))]
)
def test_nearest_is_pillows(old, new):
    image = np.random.default_rng(0).integers(0, 200, old).astype(np.uint8)
    expected = Image.fromarray(image).resize(new[::-1], Image.Resampling.NEAREST)
    np.testing.assert_array_equal(nearest(image, new), np.asarray(expected))


def test_an_object_that_vanishes_is_named_and_keeps_its_channel():
    mask = np.zeros((64, 64), np.uint8)
    mask[:, 32:] = 2
    mask[5, 7] = 1
    mask[40, 1] = 3
    labels, vanished = grid_labels(mask, (8, 8), num_objects=4)
    assert vanished == (1, 3)  # the fourth was not there to vanish
    assert labels.shape == (8, 8, 5)
    np.testing.assert_array_equal(np.asarray(labels).sum((0, 1)), [32, 0, 32, 0, 0])
    # Without objects there is the background.
    labels, vanished = grid_labels(np.zeros((4, 4), int), (2, 2))
    assert labels.shape == (2, 2, 1) and vanished == ()


def test_masks_come_back():
    mask = np.zeros((8, 12), int)
    mask[2:6, 3:9], mask[6:, :2] = 1, 2
    labels = grid_labels(mask, (8, 12)).labels
    found = mask_from_labels(labels, 4, (8, 12))
    np.testing.assert_array_equal(found, mask)
    assert mask_from_labels(labels, 4, (50, 37)).shape == (50, 37)


def test_channels_are_stretched_before_they_compete():
    labels = np.zeros((1, 3, 3), np.float32)
    labels[0, :, 0] = [0.8, 0.7, 0.6]
    labels[0, :, 1] = [0.0, 0.1, 0.4]  # never the largest, but at its own peak
    np.testing.assert_array_equal(mask_from_labels(labels, 1, (1, 3)), [[0, 0, 1]])


def test_an_object_everywhere_is_not_lost():
    labels = np.zeros((2, 2, 2), np.float32)
    labels[..., 1] = 1
    assert (mask_from_labels(labels, 2, (4, 4)) == 1).all()
    assert (mask_from_labels(0 * labels, 2, (4, 4)) == 0).all()


def test_a_video_keeps_its_first_frame_and_the_last_few():
    rng = np.random.default_rng(0)
    frames = rng.standard_normal((6, 4, 5, 3)).astype(np.float32)
    first = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (4, 5))]
    results = propagate_video(iter(frames), first, previous=2, radius=2)
    assert len(results) == 6
    np.testing.assert_array_equal(results[0], first)
    for i in range(1, 6):
        context = sorted({0, *range(max(i - 2, 0), i)})
        known = np.stack([results[j] for j in context])
        expected = propagate_labels(frames[context], known, frames[i], radius=2)
        np.testing.assert_allclose(results[i], expected, rtol=1e-6)
    alone = propagate_video(frames[:3], first, previous=0)
    expected = propagate_labels(frames[:1], first[None], frames[2])
    np.testing.assert_allclose(alone[2], expected, rtol=1e-6)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="mask: labels from 0 to 255, expected 0 to 3"):
        grid_labels(np.array([[0, 255]], np.uint8), (1, 1), num_objects=3)
    with pytest.raises(ValueError, match="mask: expected .H, W. integers"):
        grid_labels(np.zeros((2, 2)), (1, 1))
    with pytest.raises(ValueError, match="labels: 1 of 4 values are NaN"):
        mask_from_labels(np.array([[[0, 1], [np.nan, 1]]]), 2, (4, 4))
    with pytest.raises(ValueError, match="features: got no frame"):
        propagate_video([], np.zeros((1, 1, 2)))
    with pytest.raises(ValueError, match="previous: got -1, expected a whole number from 0"):
        propagate_video([], np.zeros((1, 1, 2)), previous=-1)
