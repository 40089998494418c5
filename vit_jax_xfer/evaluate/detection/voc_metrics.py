"""PASCAL VOC's average precision of boxes, by the rules of both of its devkits.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010, and its devkits:
one overlap (0.5), a detection is compared with the true box that it overlaps most, "difficult"
objects are neither found nor missed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vit_jax_xfer.data.objects import Objects
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects

RULES = ("area", "11point", "101point")


class VocScore(NamedTuple):
    """mean: over the classes of which there are objects. each: (K,), NaN for the others."""

    mean: float
    each: np.ndarray


def average_precision(hits: np.ndarray, positives: int, rule: str = "area") -> float:
    """Average precision of one class.

    hits: (n,) bool by falling score, which detections are right. positives: how many objects there
    are. rule: "area" under the precision that later recalls still have (VOC 2010 on), "11point",
    the mean of the greatest precision from recall 0, 0.1 … 1 on (VOC 2007), "101point" (COCO's).
    NaN without objects.
    """
    if rule not in RULES:
        raise ValueError(f"rule: got {rule!r}, expected one of {', '.join(RULES)}")
    hits = np.asarray(hits, bool)
    if positives < 1:
        return float("nan")
    right = np.cumsum(hits)
    recall = right / positives
    precision = right / np.arange(1, len(hits) + 1)
    # The greatest that any later recall has.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if rule == "area":
        return float(np.sum(np.diff(recall, prepend=0.0) * envelope))
    at = np.linspace(0, 1, 11 if rule == "11point" else 101)
    places = np.searchsorted(recall, at - 1e-12)
    return float(np.mean(np.append(envelope, 0.0)[places]))


def voc_figures(
    found: Sequence[FoundObjects],
    truth: Sequence[Objects],
    num_classes: int,
    rule: str = "area",
    overlap: float = 0.5,
) -> VocScore:
    """Average precision of each class and its mean, of photographs in the same order in both.

    Boxes go from 0 to the last pixel's end, so that overlaps equal the devkit's with its +1.
    """
    each = np.full(num_classes, np.nan)
    for label in range(num_classes):
        hits, scores, positives = [], [], 0
        for one, objects in zip(found, truth, strict=True):
            there, mine = objects.labels == label, one.classes == label
            if not there.any() and not mine.any():
                continue
            true = objects.pick(there).targets
            right, counted = _compared(one.boxes[mine], true, overlap)
            hits.append(right[counted])
            scores.append(one.scores[mine][counted])
            positives += int((~true.hard).sum())
        order = np.argsort(-np.concatenate(scores or [[]]), kind="stable")
        each[label] = average_precision(np.concatenate(hits or [[]])[order], positives, rule)
    seen = each[~np.isnan(each)]
    return VocScore(float(seen.mean()) if len(seen) else float("nan"), each)


def _compared(boxes: np.ndarray, true: Objects, overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """Of detections of one class on one photograph, by falling score: which are right, (n,) bool,

    and which count at all: not those whose best true box is a hard one.
    """
    right, counted = np.zeros(len(boxes), bool), np.ones(len(boxes), bool)
    if not len(true):
        return right, counted
    overlaps = _overlaps(boxes, true.boxes)
    taken = np.zeros(len(true), bool)
    for row, best in enumerate(overlaps.argmax(1)):
        if overlaps[row, best] < overlap:
            continue
        if true.hard[best]:
            counted[row] = False
        else:
            right[row] = not taken[best]
            taken[best] = True
    return right, counted


def _overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) in float64."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (first, second)]
    return shared / np.maximum(areas[0][:, None] + areas[1][None] - shared, 1e-12)
