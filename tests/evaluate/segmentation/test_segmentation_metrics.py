"""Mean IoU: a hand-made case, sets of pixels, what is ignored and what is refused."""

import math

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as counted
from sklearn.metrics import jaccard_score

from vit_jax_xfer.evaluate.segmentation.segmentation_metrics import (
    confusion_matrix,
    segmentation_score,
)


def labels(seed=0, classes=5):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (3, 17, 19)).astype(np.uint8)
    prediction = np.where(
        rng.random(truth.shape) < 0.6, truth, rng.integers(0, classes, truth.shape)
    )
    truth[:, :3] = 255
    prediction[:, :2] = 200  # nobody asks what is predicted there
    return prediction.astype(np.uint8), truth


def test_against_scikit_learn():
    prediction, truth = labels()
    scored = truth != 255
    confusion = confusion_matrix(prediction, truth, 5)
    np.testing.assert_array_equal(confusion, counted(truth[scored], prediction[scored]))
    score = segmentation_score(confusion)
    expected = jaccard_score(truth[scored], prediction[scored], average=None)
    np.testing.assert_allclose(score.iou, expected)
    assert score.mean_iou == pytest.approx(expected.mean())
    assert score.accuracy == pytest.approx((truth == prediction)[scored].mean())
    assert score.pixels == scored.sum()


def test_many_classes_in_eight_bits():
    truth = np.arange(150, dtype=np.uint8)
    np.testing.assert_array_equal(confusion_matrix(truth, truth, 150), np.eye(150))


def test_the_references_figures(golden_case):
    arrays = golden_case("dense/metrics/miou").arrays
    confusion = confusion_matrix(arrays["pred"], arrays["gt"], 6)
    np.testing.assert_array_equal(confusion, arrays["confusion"])
    score = segmentation_score(confusion)
    np.testing.assert_allclose(score.iou, arrays["iou"], atol=1e-6)
    assert score.mean_iou == pytest.approx(float(arrays["miou"]), abs=1e-6)
    assert score.accuracy == pytest.approx(float(arrays["aacc"]), abs=1e-6)


def test_images_share_one_matrix():
    # Image by image class 1 has 1/2 and 0/1 and the mean would be that of images.
    images = [
        (np.array([1, 1, 0]), np.array([1, 0, 0])),
        (np.array([0, 0, 0]), np.array([1, 0, 0])),
    ]
    total = sum(np.asarray(confusion_matrix(*image, 2), np.int64) for image in images)
    score = segmentation_score(total)
    np.testing.assert_allclose(score.iou, [3 / 5, 1 / 3])
    assert score.mean_iou == pytest.approx(7 / 15)


def test_classes_that_do_not_occur_are_left_out():
    score = segmentation_score(confusion_matrix(np.array([0, 3]), np.array([0, 0]), 4))
    assert score.iou[0] == 0.5 and score.iou[3] == 0  # predicted, though never there
    assert np.isnan(score.iou[1:3]).all()
    assert score.mean_iou == 0.25


def test_an_empty_annotation():
    score = segmentation_score(confusion_matrix(np.zeros((4, 4), int), np.full((4, 4), 255), 3))
    assert math.isnan(score.mean_iou) and math.isnan(score.accuracy) and score.pixels == 0


def test_bad_input_is_named():
    prediction, truth = labels()
    with pytest.raises(ValueError, match="truth: [0-9]+ labels are outside 0 to 3"):
        confusion_matrix(np.minimum(prediction, 3), truth, 4)
    with pytest.raises(ValueError, match="prediction: [0-9]+ labels are outside 0 to 3"):
        confusion_matrix(prediction, np.minimum(truth, 3), 4)
    with pytest.raises(ValueError, match="prediction: expected integer labels, got float32"):
        confusion_matrix(prediction.astype(np.float32), truth, 4)
    with pytest.raises(ValueError, match="prediction: got .17, 19., truth has .3, 17, 19."):
        confusion_matrix(prediction[0], truth, 4)
    with pytest.raises(ValueError, match="confusion: expected .K, K., got shape .2, 3."):
        segmentation_score(np.zeros((2, 3)))
