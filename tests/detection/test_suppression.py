"""Suppression of boxes that overlap: exact at any threshold, and soft."""

import jax
import numpy as np
import pytest

from vit_jax_xfer.detection import nms, soft_nms


@pytest.fixture(scope="module")
def case(golden_case):
    return golden_case("dense/boxes/nms")


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("by_class", [False, True])
def test_what_stays_is_the_references(case, threshold, by_class):
    want = case.arrays
    classes = want["classes"] if by_class else None
    indices, valid = nms(want["boxes"], want["scores"], threshold, 300, classes)
    kept = want[f"keep_class_{threshold}" if by_class else f"keep_{threshold}"]
    np.testing.assert_array_equal(indices[valid], kept)
    assert valid.sum() == len(kept)
    first, valid = nms(want["boxes"], want["scores"], threshold, 10, classes)
    np.testing.assert_array_equal(first, kept[:10])


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_scores_are_the_references(case, method):
    want, soft = case.arrays, case.meta["soft"]
    indices, scores, valid = soft_nms(
        want["boxes"],
        want["scores"],
        300,
        method=method,
        threshold=soft["iou"],
        sigma=soft["sigma"],
        score_threshold=soft["score_threshold"],
    )
    np.testing.assert_array_equal(indices[valid], want[f"soft_{method}_keep"])
    np.testing.assert_allclose(scores[valid], want[f"soft_{method}_scores"], rtol=1e-4, atol=1e-7)


def test_a_chain_is_followed_and_empty_places_never_stay():
    # Each overlaps its neighbours alone: the second goes, so the third stays.
    boxes = np.array([[x, 0, x + 10, 10] for x in (0, 4, 8, 12)], np.float32)
    scores = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    indices, valid = jax.jit(nms, static_argnums=(2, 3))(boxes, scores, 0.4, 4)
    np.testing.assert_array_equal(indices[valid], [0, 2])
    boxes[0] = np.nan
    scores[2] = -np.inf
    bad = np.concatenate([boxes, [[5, 5, 1, 1]]]), np.append(scores, 0.95)
    indices, valid = nms(*bad, 0.4, 4)
    np.testing.assert_array_equal(indices[valid], [1, 3])
    indices, _, valid = soft_nms(*bad, 4, threshold=0.4)
    np.testing.assert_array_equal(indices[valid], [1, 3])
    for none in (nms(np.zeros((0, 4)), np.zeros(0), 0.5, 3), soft_nms(np.zeros((0, 4)), [], 3)):
        assert not none[-1].any()
        assert none[0].shape == (3,)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="scores: got"):
        nms(np.zeros((2, 4)), np.zeros(3), 0.5, 3)
    with pytest.raises(ValueError, match="method: 'hard'"):
        soft_nms(np.zeros((2, 4)), np.zeros(2), 3, method="hard")
    with pytest.raises(ValueError, match="max_output: got 0, expected a whole number from 1"):
        nms(np.zeros((2, 4)), np.zeros(2), 0.5, 0)
