"""Masks in the frames of boxes: targets, and back onto the photograph."""

import numpy as np
import pytest

from vit_jax_xfer.detection import mask_targets, paste_masks


def disc(side):
    """A disc that fills its box, and the box on a photograph of 64 × 64."""
    middle = (np.arange(side) + 0.5) / side - 0.5
    return (middle[:, None] ** 2 + middle**2 < 0.25).astype(np.uint8)


def test_a_target_is_the_object_seen_through_the_region():
    masks = np.stack([disc(56)] * 3)
    boxes = np.array([[10, 20, 50, 44]] * 3, np.float32)
    regions = np.array([[10, 20, 50, 44], [30, 20, 50, 44], [50, 44, 60, 60]], np.float32)
    whole, half, beside = np.asarray(mask_targets(masks, boxes, regions))
    assert (whole != disc(28)).mean() < 0.02
    wide = disc(56)[1::2, 28:] > 0  # rows and columns of about the same middles
    assert (half != wide).mean() < 0.03
    assert not beside.any()
    empty = mask_targets(masks[:1], boxes[:1] * 0, regions[:1])
    assert not np.asarray(empty).any()


def test_pasting_gives_back_the_object():
    boxes = np.array([[10, 20, 50, 44], [-8, 40, 24, 72], [np.nan, 0, 4, 4], [9, 9, 9, 20]])
    found = paste_masks(np.stack([disc(28)] * 4).astype(np.float32), boxes, 64, 60)
    assert found.shape == (4, 64, 60)
    rows, columns = np.mgrid[:64, :60] + 0.5
    for mask, (left, top, right, bottom) in zip(found[:2], boxes[:2], strict=True):
        x = (columns - left) / (right - left) - 0.5
        y = (rows - top) / (bottom - top) - 0.5
        true = x**2 + y**2 < 0.25
        assert (mask & true).sum() / (mask | true).sum() > 0.93
    assert not found[2:].any()
    with pytest.raises(ValueError, match=r"masks: expected \(N, m, m\)"):
        paste_masks(np.zeros((2, 3, 3)), boxes, 8, 8)


def test_a_pasted_mask_fades_towards_its_edge():
    # Outside the mask there are zeros: a pixel at the edge has 3/4 of it, one at a corner 9/16.
    full, box = np.ones((1, 4, 4), np.float32), np.array([[2, 2, 10, 10]])
    for threshold, pixels in ((0.5, 64), (0.6, 60), (0.8, 36)):
        assert paste_masks(full, box, 12, 12, threshold).sum() == pixels
