"""Whether a map lies on the object: against masks and boxes, by the published protocols.

Pixel accuracy, IoU, average precision and F1 as Chefer et al. (2012.09838) take them on Guillaumin
et al.'s segmentations of ImageNet: a map is scaled to 0 … 1, and what is above its own mean is
foreground. The pointing game is Zhang et al.'s (1608.00507).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import host_array
from vit_jax_xfer.arguments.whole_numbers import check_number

IGNORED = -1  # a mask's pixels that count for nothing


Values = jax.Array | np.ndarray


class Localisation(NamedTuple):
    """Figures of all images together, and of each, (B,): on the host those of `summary`."""

    pixel_accuracy: float  # of all pixels that count
    iou: Values  # (2,): background and foreground, pooled over all images
    miou: float
    average_precision: Values  # (B,)
    mean_ap: float
    f1: Values  # (B,), of the foreground; 0 where neither has any
    pointing: Values  # (B,) bool: the map's largest value lies on the object
    energy: Values  # (B,): the share of the scaled map that does


class Counts(NamedTuple):
    """One image's: pixels of background and foreground that are right, in either and in all."""

    right: np.ndarray  # (2,)
    either: np.ndarray  # (2,)
    average_precision: float
    f1: float
    pointing: bool
    energy: float


def localise(maps: ArrayLike, masks: ArrayLike, tolerance: float = 0.0) -> Localisation:
    """How well maps (B, H, W) find the objects of masks (B, H, W): 1 on them, 0 off, -1 ignored.

    tolerance: pixels by which the pointing game may miss (published: 15). The largest of equal
    values is the first, row by row. A map of one value has no foreground. ValueError for shapes
    that differ, values that aren't finite, and masks without a pixel on or off that counts.
    """
    maps, masks = host_array("maps", maps), host_array("masks", masks)
    if maps.ndim != 3 or not maps.size or maps.shape != masks.shape:
        raise ValueError(f"masks: expected maps' (B, H, W), got {masks.shape} and {maps.shape}")
    check_number("tolerance", tolerance)
    found = summary([count(*one, tolerance) for one in zip(maps, masks, strict=True)])
    return Localisation(*(jnp.asarray(x) if isinstance(x, np.ndarray) else x for x in found))


def count(found: np.ndarray, mask: np.ndarray, tolerance: float = 0.0) -> Counts:
    """One image's part of `localise`, so that no data set need be in memory; see `summary`."""
    mask = np.asarray(mask)
    if not np.isin(mask, (IGNORED, 0, 1)).all() or not (mask == 1).any():
        raise ValueError("masks: expected 1, 0 and -1, and some of 1 in each")
    found = scaled(found)
    counts = mask != IGNORED
    object_ = mask[counts] == 1
    inside = (found > found.mean())[counts]
    right = np.array([(~inside & ~object_).sum(), (inside & object_).sum()])
    either = np.array([(~inside | ~object_).sum(), (inside | object_).sum()])
    both = inside.sum() + object_.sum()
    values = found[counts]
    precision = average_precision(
        np.concatenate([1 - values, values]), np.concatenate([~object_, object_])
    )
    return Counts(
        right,
        either,
        precision,
        float(2 * right[1] / both) if both else 0.0,
        points_at(found, mask, tolerance),
        float(found[mask == 1].sum() / found.sum()) if found.any() else 0.0,
    )


def summary(counts: list[Counts]) -> Localisation:
    """The figures of images' counts, at least one."""
    if not counts:
        raise ValueError("counts: got none, expected at least one image's")
    right = np.sum([one.right for one in counts], axis=0)
    either = np.sum([one.either for one in counts], axis=0)
    iou = np.divide(right, either, out=np.zeros(2), where=either > 0)
    precisions = np.array([one.average_precision for one in counts])
    # A pixel that is wrong is in either's count of both kinds.
    pixels = either.sum() - (either - right)[0]
    return Localisation(
        float(right.sum() / pixels),
        iou,
        float(iou.mean()),
        precisions,
        float(precisions.mean()),
        np.array([one.f1 for one in counts]),
        np.array([one.pointing for one in counts]),
        np.array([one.energy for one in counts]),
    )


def energy(maps: ArrayLike, boxes: ArrayLike) -> jax.Array:
    """The share of each map (B, H, W), scaled to 0 … 1, in its box (x0, y0, x1, y1): (B,) float32.

    Boxes (B, 4) are whole pixels, the last ones outside. ValueError for others, and for a box that
    is empty or leaves its map.
    """
    maps, boxes = host_array("maps", maps), host_array("boxes", boxes)
    if maps.ndim != 3 or not maps.size:
        raise ValueError(f"maps: expected (B, H, W), none of them 0, got {maps.shape}")
    if boxes.shape != (len(maps), 4) or boxes.dtype.kind not in "iu":
        raise ValueError(
            f"boxes: expected whole numbers ({len(maps)}, 4), got {boxes.dtype} {boxes.shape}"
        )
    shares = []
    for found, (x0, y0, x1, y1) in zip(maps, boxes, strict=True):
        height, width = found.shape
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise ValueError(
                f"boxes: got {x0}, {y0}, {x1}, {y1}, expected x0, y0, x1, y1 inside of "
                f"{height}×{width}, x0 below x1 and y0 below y1"
            )
        found = scaled(found)
        shares.append(found[y0:y1, x0:x1].sum() / found.sum() if found.any() else 0.0)
    return jnp.asarray(shares, jnp.float32)


def points_at(found: np.ndarray, mask: np.ndarray, tolerance: float = 0.0) -> bool:
    """Whether a pixel of the object lies at most `tolerance` from the map's largest value."""
    row, column = np.unravel_index(np.argmax(found), found.shape)
    rows, columns = np.nonzero(mask == 1)
    return bool((np.hypot(rows - row, columns - column) <= tolerance).any())


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Σ (recallₙ - recallₙ₋₁) · precisionₙ over thresholds, equal scores together.

    scores (n,), truth (n,) bool, some of it true.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(truth[order])
    last = np.append(np.nonzero(np.diff(ranked))[0], len(ranked) - 1)
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0) * precision).sum())


def scaled(found: np.ndarray) -> np.ndarray:
    """A map from its least to its largest as 0 … 1, float64; zeros where it doesn't vary."""
    found = np.asarray(found, np.float64)
    if not np.isfinite(found).all():
        raise ValueError("maps: some values are NaN or infinite; expected none")
    low, high = found.min(), found.max()
    return (found - low) / (high - low) if high > low else np.zeros_like(found)
