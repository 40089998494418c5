"""What is known of the objects on a photograph, and the one rule for boxes that can't be right."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

# A polygon's corners (n, 2) as x, y, of which an object may have several; or COCO's run lengths,
# {"size": [h, w], "counts": …}; None = its outline isn't known.
Outline = tuple[np.ndarray, ...] | dict[str, Any] | None

NOT_FINITE = "box with a coordinate that is no number"
SWAPPED = "box that ends before it starts"
OUTSIDE = "box outside of the image"
EMPTY = "box without area"
FAR = "outline with a corner that is the image's longer side or more outside of it"
CUT = "box that ends outside of the image, of which the part inside counts"
_ROUNDING = 0.02  # pixels, of COCO's two digits and YOLO's six


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """The objects of one photograph, in its pixels.

    boxes: (M, 4) float64 xyxy; a box from 0 to 1 is the first pixel, and one may end outside of the
    photograph where its layout says so, which figures go by. labels: (M,) int32, class
    numbers. crowd: (M,) bool, several objects under one outline, which are no targets. hard: (M,)
    bool, VOC's "difficult". areas: (M,) float64 in pixels, by which COCO sorts objects into sizes.
    outlines: M of them.
    """

    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    hard: np.ndarray
    areas: np.ndarray
    outlines: tuple[Outline, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def pick(self, rows: np.ndarray) -> "Objects":
        """Those of a mask (M,) bool, or in the order of indices."""
        rows = np.asarray(rows)
        order = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        arrays = (self.boxes, self.labels, self.crowd, self.hard, self.areas)
        return Objects(*(x[order] for x in arrays), tuple(self.outlines[i] for i in order))

    @property
    def targets(self) -> "Objects":
        """Without crowds."""
        return self.pick(~self.crowd)


NO_OBJECTS = Objects(
    np.zeros((0, 4)), np.zeros(0, np.int32), np.zeros(0, bool), np.zeros(0, bool), np.zeros(0), ()
)


def require_pixels(boxes: np.ndarray, where: object) -> None:
    """ValueError naming the annotations where all boxes (M, 4) of a set end within the first pixel.

    That is, where they are shares of their images' sides; of either order of x and y.
    """
    ends = boxes[:, 2:][np.isfinite(boxes[:, 2:])]
    if len(ends) and ends.max() <= 1:
        raise ValueError(
            f"{where}: all boxes end within the first pixel; they are to be in pixels, not in "
            "shares of an image"
        )


class CheckedBoxes(NamedTuple):
    """good: (M,) bool, which boxes are kept. reasons: (M,) texts, for each that is not, and for
    each that ends outside of the image, one of this file's; "" for the others."""

    good: np.ndarray
    reasons: np.ndarray


def check_boxes(boxes: np.ndarray, sizes: np.ndarray) -> CheckedBoxes:
    """The one rule of all sources for boxes (M, 4) xyxy of images of `sizes` (M, 2), height, width.

    Dropped where a coordinate is no finite number, where a box ends before it starts, and where
    nothing of it is inside the image.
    """
    limits = np.tile(sizes[:, ::-1], 2)
    finite = np.isfinite(boxes).all(1)
    boxes = np.where(finite[:, None], boxes, 0)
    cut = np.clip(boxes, 0, limits)
    swapped = (boxes[:, 2:] < boxes[:, :2]).any(1)
    empty = (boxes[:, 2:] == boxes[:, :2]).any(1)
    nothing = (cut[:, 2:] <= cut[:, :2]).any(1)
    changed = (abs(cut - boxes) > _ROUNDING).any(1)
    reasons = np.select(
        [~finite, swapped, empty, nothing, changed],
        [NOT_FINITE, SWAPPED, EMPTY, OUTSIDE, CUT],
        "",
    )
    return CheckedBoxes(finite & ~nothing, reasons)
