"""VOC's average precision by its devkits' rules."""

import numpy as np
import pytest

from vit_jax_xfer.data.objects import Objects
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects
from vit_jax_xfer.evaluate.detection.voc_metrics import average_precision, voc_figures


def test_rules_are_the_references(golden_case):
    arrays = golden_case("dense/metrics/voc_ap").arrays
    for rule in ("11point", "area", "101point"):
        found = average_precision(arrays["tp"], 40, rule)
        assert found == pytest.approx(float(arrays[f"ap_{rule}"]), abs=1e-9)


def test_edges_of_the_curve():
    assert np.isnan(average_precision(np.zeros(3, bool), 0))
    assert average_precision(np.zeros(0, bool), 2) == 0
    for rule in ("11point", "area", "101point"):
        assert average_precision(np.ones(4, bool), 4, rule) == pytest.approx(1)
    assert average_precision(np.ones(4, bool), 8) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="rule: got 'x'"):
        average_precision(np.ones(1, bool), 1, "x")


def truth_of(boxes, hard):
    number = len(boxes)
    arrays = np.zeros(number, np.int32), np.zeros(number, bool), np.array(hard, bool)
    corners = np.array(boxes, float).reshape(-1, 4)
    return Objects(corners, *arrays, np.ones(number), (None,) * number)


def found_of(boxes, scores, label=0):
    labels = np.full(len(boxes), label)
    return FoundObjects(
        np.array(boxes, float).reshape(-1, 4), np.array(scores), labels, None, (50, 50)
    )


def test_hard_objects_are_neither_found_nor_missed():
    easy, hard = (0, 0, 10, 10), (20, 20, 30, 30)
    truth = [truth_of([easy, hard], [False, True])]
    both = voc_figures([found_of([hard, easy], [0.9, 0.8])], truth, 2)
    assert both.mean == 1 and np.isnan(both.each[1])
    # As an easy one it would count as missed.
    assert voc_figures([found_of([easy], [0.8])], [truth_of([easy, hard], [0, 0])], 1).mean == 0.5


def test_an_object_is_found_once_and_by_its_best_box():
    one, other = (0, 0, 10, 10), (0, 0, 10, 14)
    truth = [truth_of([one, other], [False, False])]
    twice = voc_figures([found_of([one, one], [0.9, 0.8])], truth, 1)
    assert twice.mean == 0.5  # the second is wrong, though it overlaps the other by half
    wrong = voc_figures([found_of([(0, 0, 10, 4.9)], [0.9])], [truth_of([one], [False])], 1)
    half = voc_figures([found_of([(0, 0, 10, 5)], [0.9])], [truth_of([one], [False])], 1)
    assert (wrong.mean, half.mean) == (0, 1)
    assert np.isnan(voc_figures([found_of([], [])], [truth_of([], [])], 1).mean)
