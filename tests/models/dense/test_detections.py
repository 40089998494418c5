"""What is chosen among scored boxes, and what counts as an object."""

import jax
import numpy as np

from vit_jax_xfer.models.dense.detections import Choice, strongest, truth_of

BOXES = np.array([[[0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [0, 0, 0, 0]]], np.float32)
SCORES = np.array([[[0.9, 0.2], [0.8, 0.7], [0.04, 0.6], [0.99, 0.99]]], np.float32)
THERE = np.array([[True, True, True, False]])


def test_the_strongest_of_each_class_stay_by_falling_score():
    found = jax.jit(strongest)(BOXES, SCORES, THERE, Choice(most=4))
    np.testing.assert_array_equal(found.valid[0], [True, True, True, False])
    np.testing.assert_allclose(found.scores[0], [0.9, 0.7, 0.6, 0])
    np.testing.assert_array_equal(found.classes[0], [0, 1, 1, -1])
    np.testing.assert_array_equal(found.boxes[0, :3], BOXES[0, [0, 1, 2]])
    assert not found.boxes[0, 3].any()


def test_soft_suppression_lowers_scores_within_a_class():
    soft = strongest(BOXES, SCORES, THERE, Choice(most=6, suppression="linear"))
    overlap = 9 / 11
    np.testing.assert_allclose(
        soft.scores[0, :5], [0.9, 0.7, 0.6, 0.8 * (1 - overlap), 0.2 * (1 - overlap)], rtol=1e-5
    )


def test_boxes_may_be_of_each_class():
    by_class = np.stack([BOXES, BOXES + 100], axis=2)
    found = strongest(by_class, SCORES, THERE, Choice(most=3))
    best = strongest(by_class, SCORES, THERE, Choice(most=1))
    np.testing.assert_array_equal(best.classes, [[0]])
    np.testing.assert_array_equal(found.boxes[0], [BOXES[0, 0], *(BOXES[0, [1, 2]] + 100)])


def test_what_is_no_box_is_no_object():
    boxes = [
        [0, 0, 4, 4],
        [9, 9, 4, 4],
        [np.inf, 0, 4, 4],
        [20, 4, 30, 9],
        [5, 5, 5, 9],
        [1, 1, 2, 2],
    ]
    targets = {
        "boxes": np.array([boxes], np.float32),
        "box_labels": np.array([[3, 1, 1, 1, 1, -1]]),
        "content": np.array([[16, 20]]),
    }
    truth = truth_of(targets, (16, 32))
    np.testing.assert_array_equal(truth.valid, [[True] + [False] * 5])
    assert not np.asarray(truth.boxes)[0, 1:].any()
    inside = truth_of({**targets, "content": None}, (16, 32))
    np.testing.assert_array_equal(inside.valid[0, 3], True)
