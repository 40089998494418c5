"""Maps against masks: reference values, and cases that can be counted by hand."""

import numpy as np
import pytest

from tests.outputs import assert_close
from vit_jax_xfer.evaluate.faithfulness.localisation import (
    average_precision,
    energy,
    localise,
    points_at,
)


def test_reference_values(golden_case):
    _, arrays, _ = golden_case("explain/localisation")
    maps, masks = arrays["map"], arrays["gt"]
    found = localise(maps, masks)
    names = {"average_precision": "ap", "pixel_accuracy": "", "iou": "", "miou": "", "mean_ap": ""}
    for name, theirs in {**names, "f1": ""}.items():
        assert_close(getattr(found, name), arrays[theirs or name], name, 1e-6)
    np.testing.assert_array_equal(found.pointing, arrays["pointing"])
    near = localise(maps, masks, tolerance=3)
    np.testing.assert_array_equal(near.pointing, arrays["pointing_tol3"])
    assert_close(energy(maps, arrays["box"]), arrays["energy_in_box"], "energy", 1e-6)
    for i in range(len(maps)):
        assert_close(localise(maps[[i]], masks[[i]]).iou, arrays["iou_per_image"][i], "iou", 1e-6)


@pytest.mark.parametrize(
    ("maps", "boxes", "message"),
    [
        (np.ones((4, 4)), [[0, 0, 1, 1]], r"maps: expected \(B, H, W\)"),
        (np.ones((2, 4, 4)), [[0, 0, 1, 1]], r"boxes: expected whole numbers \(2, 4\), got int64"),
        (np.ones((1, 4, 4)), [[0, 0, 1, 1.5]], r"boxes: .* got float64 \(1, 4\)"),
        (np.ones((1, 4, 4)), [[-3, 0, 2, 2]], "boxes: got -3, 0, 2, 2, expected .* of 4×4"),
        (np.ones((1, 4, 4)), [[0, 2, 2, 2]], "boxes: got 0, 2, 2, 2, expected"),
        (np.ones((1, 4, 4)), [[0, 0, 2, 5]], "boxes: got 0, 0, 2, 5, expected"),
    ],
)
def test_boxes_lie_on_their_maps(maps, boxes, message):
    with pytest.raises(ValueError, match=message):
        energy(maps, boxes)


def test_a_mask_finds_itself_and_its_opposite_nothing():
    mask = np.zeros((1, 4, 4), int)
    mask[0, 1:3, 1:3] = 1
    found = localise(mask.astype(float), mask)
    assert found.pixel_accuracy == found.miou == found.mean_ap == 1
    assert found.f1.tolist() == found.energy.tolist() == [1]
    assert found.pointing.tolist() == [True]
    found = localise(1.0 - mask, mask)
    assert found.pixel_accuracy == found.miou == 0
    assert found.f1.tolist() == found.energy.tolist() == [0]
    assert found.pointing.tolist() == [False]
    # What is ignored counts neither as right nor as wrong.
    mask[0, 0] = -1
    assert localise((mask == 1).astype(float), mask).pixel_accuracy == 1
    even = localise(np.full((1, 4, 4), 7.0), mask)
    assert even.energy.tolist() == even.f1.tolist() == [0]
    assert even.pixel_accuracy == pytest.approx(8 / 12)


def test_equal_values_point_at_the_first_and_share_a_precision():
    found = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert points_at(found, np.array([[0, 1], [0, 0]]))
    assert not points_at(found, np.array([[0, 0], [1, 0]]))
    assert points_at(found, np.array([[0, 0], [1, 0]]), tolerance=1.5)
    scores, truth = np.array([0.5, 0.5, 0.1]), np.array([True, False, True])
    assert average_precision(scores, truth) == pytest.approx(0.5 * 1 / 2 + 0.5 * 2 / 3)
    assert average_precision(scores, truth) == average_precision(
        scores[[1, 0, 2]], truth[[1, 0, 2]]
    )


@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        (np.zeros((1, 2, 2)), np.zeros((1, 2, 3)), r"masks: expected maps' \(B, H, W\), got"),
        (np.zeros((1, 2, 2)), np.full((1, 2, 2), 3), "masks: expected 1, 0 and -1"),
        (np.zeros((1, 2, 2)), np.zeros((1, 2, 2)), "and some of 1 in each"),
        (np.full((1, 2, 2), np.inf), np.ones((1, 2, 2)), "maps: some values are NaN"),
    ],
)
def test_errors_name_the_argument(maps, masks, message):
    with pytest.raises(ValueError, match=message):
        localise(maps, masks)
