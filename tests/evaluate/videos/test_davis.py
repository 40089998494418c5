"""The conventions of DAVIS 2017: frames that count, objects, quarters, means over objects."""

import math

import numpy as np
import pytest

from vit_jax_xfer.evaluate.videos.davis import (
    VideoScore,
    davis_score,
    frame_statistics,
    score_video,
)
from vit_jax_xfer.evaluate.videos.video_metrics import contour_accuracy, region_similarity


def video(frames=5):
    """Two objects that move apart, the second one leaving before the end."""
    truth = np.zeros((frames, 40, 60), np.uint8)
    for i in range(frames):
        truth[i, 5:20, 5 + i : 20 + i] = 1
        if i < frames - 2:
            truth[i, 25:35, 40 + 5 * i : 55 + 5 * i] = 2
    truth[:2, :3] = 255
    return truth


def test_objects_and_frames():
    truth = video()
    prediction = np.roll(truth, 2, axis=2)
    prediction[prediction == 255] = 0
    prediction[0], prediction[-1] = 1, 77  # given, and not scored
    score = score_video(prediction, truth)
    assert score.region.shape == score.contour.shape == (2, 3)
    for k, frame in np.ndindex(2, 3):
        masks = prediction[frame + 1] == k + 1, truth[frame + 1] == k + 1
        np.testing.assert_allclose(score.region[k, frame], region_similarity(*masks), rtol=1e-6)
        np.testing.assert_allclose(score.contour[k, frame], contour_accuracy(*masks), rtol=1e-6)
    assert score.region[1, 2] == 1  # gone, and none predicted


def test_missing_and_empty_objects():
    truth = video()
    nothing = score_video(np.zeros_like(truth), truth)
    np.testing.assert_array_equal(nothing.region, [[0, 0, 0], [0, 0, 1]])
    late = np.zeros_like(truth)
    late[1:] = truth[1:]  # the first frame decides
    assert score_video(np.zeros_like(truth), late).region.shape == (0, 3)
    with pytest.raises(ValueError, match="prediction: object 2; the first frame of truth has 0"):
        score_video(truth, late)


def test_only_objects_of_the_first_frame_count_whatever_their_numbers():
    truth = video()
    prediction = np.where(np.roll(truth, 2, axis=2) == 255, 0, np.roll(truth, 2, axis=2))
    expected = score_video(prediction, truth)
    renamed = np.array([0, 9, 200, *[0] * 252, 255], np.uint8)  # 1 and 2 as 9 and 200
    found = score_video(renamed[prediction], renamed[truth])
    np.testing.assert_array_equal(found.region, expected.region)
    np.testing.assert_array_equal(found.contour, expected.contour)
    with pytest.raises(ValueError, match="object 2; the first frame of truth has 9, 200"):
        score_video(prediction, renamed[truth])


def test_statistics():
    # Seven frames: quarters 0-2, 1-3, 3-5 and 4-6, as edges 1, 2.5, 4, 5.5, 7 are rounded.
    values = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.2])
    found = frame_statistics(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.recall == pytest.approx(4 / 7)  # 0.5 itself is not above
    assert found.decay == pytest.approx(values[:3].mean() - values[5:].mean())
    assert frame_statistics([0.25]) == (0.25, 0, 0)
    # The challenge's own indices, as long as they fit its 8 bits.
    for n in (2, 3, 23, 67, 102):
        values = np.random.default_rng(n).random(n)
        ids = (np.round(np.linspace(1, n, 5) + 1e-10) - 1).astype(np.uint8)
        first, last = values[ids[0] : ids[1] + 1], values[ids[3] : ids[4] + 1]
        assert frame_statistics(values).decay == pytest.approx(first.mean() - last.mean())


def test_every_object_counts_the_same():
    one = VideoScore(np.full((1, 4), 0.2), np.full((1, 4), 0.4))
    three = VideoScore(np.full((3, 6), 0.6), np.full((3, 6), 0.8))
    none = VideoScore(*np.zeros((2, 0, 4)))
    score = davis_score({"goat": one, "judo": three, "sky": none})
    assert score.j.mean == pytest.approx(0.5)
    assert score.f.mean == pytest.approx(0.7)
    assert score.j_and_f == pytest.approx(0.6)
    assert (score.j.recall, score.f.recall) == (0.75, 0.75)
    assert score.skipped == ("sky",)
    assert list(score.per_object) == ["goat_1", "judo_1", "judo_2", "judo_3"]
    assert score.per_object["judo_2"] == pytest.approx((0.6, 0.8))
    empty = davis_score({"sky": none})
    assert math.isnan(empty.j_and_f) and empty.skipped == ("sky",)


def test_real_masks(shared):
    from PIL import Image

    folder = next((shared / "data/davis2016_val_3seq").rglob("Annotations*"), None)
    files = sorted(folder.rglob("*.png"))[:5]
    truth = np.stack([np.asarray(Image.open(f).convert("L")) > 127 for f in files]).astype(np.uint8)
    same, shifted = score_video(truth, truth), score_video(np.roll(truth, 3, 1), truth)
    assert same.region.min() == same.contour.min() == 1
    assert 0.5 < shifted.region.min() < 1
    assert shifted.contour.min() > 0.95  # three pixels are within the tolerance


def test_bad_input_is_named():
    truth = video()
    with pytest.raises(ValueError, match="truth: expected .T, H, W. with at least 3 frames"):
        score_video(truth[:2], truth[:2])
    with pytest.raises(ValueError, match="prediction: got .4, 40, 60., truth has .5, 40, 60."):
        score_video(truth[1:], truth)
    with pytest.raises(ValueError, match="truth: expected integer labels, got float64"):
        score_video(truth, truth.astype(float))
    with pytest.raises(ValueError, match="values: expected .frames,., at least one"):
        frame_statistics([])
