"""From an example's objects or map of classes to arrays of one shape, beside its image.

Everything goes through the frame that the pipeline's ops left (`frame.py`), and what is of the
photograph lies at the top left: a border that an op made elsewhere is moved to the other side.
"""

import dataclasses
import math

import numpy as np

from vit_jax_xfer.data import outlines
from vit_jax_xfer.data.frame import Frame, cropped
from vit_jax_xfer.data.objects import Objects

BOXES, LABEL_MAP = "boxes", "label_map"  # what the targets of a source may be
VOID = 255  # in a map of classes: no class, or outside of the photograph
# What stands in rows of a batch that hold no example; 0 where nothing is said.
PADDING = {"box_labels": -1, "label_map": VOID, "index": -1}
_THINNEST = 1e-2  # pixels; thinner slivers of cut objects are none


@dataclasses.dataclass(frozen=True)
class TargetForm:
    """Which arrays stand beside an image, and their sizes.

    kind: "boxes" or "label_map". max_boxes: G, the largest objects of an image that are kept.
    mask_size: m of the masks in their boxes' frames; 0 = no masks. whole: refuses a pipeline that
    cuts off or mirrors anything, since what is found must go back to the photograph.
    """

    kind: str = BOXES
    max_boxes: int = 100
    mask_size: int = 0
    whole: bool = False

    def __post_init__(self):
        if self.kind not in (BOXES, LABEL_MAP):
            raise ValueError(f"kind: got {self.kind!r}, expected {BOXES!r} or {LABEL_MAP!r}")
        if not 1 <= self.max_boxes <= 10_000:
            raise ValueError(f"max_boxes: got {self.max_boxes}, expected from 1 to 10,000")
        if not 0 <= self.mask_size <= 1024:
            raise ValueError(f"mask_size: got {self.mask_size}, expected from 0 to 1,024")

    def arrays(self, example: dict, image: np.ndarray, frame: Frame) -> dict[str, np.ndarray]:
        """The image, moved to the top left, and the arrays beside it.

        boxes: float32 (G, 4) xyxy in the image's pixels, zeros on padding. box_labels: int32 (G,),
        -1 on padding. box_masks: uint8 (G, m, m). label_map: uint8 (H, W), 255 where
        there is no class. content: float32 (2,), height and width of
        what is of the photograph. original: int32 (2,), the photograph's. ValueError for an image
        that shows not the whole photograph where it must.
        """
        if self.whole and not frame.is_whole:
            raise ValueError(
                "pipeline: it cuts off, mirrors or moves a part of the photograph, so that results "
                "can't be put back on it: evaluate with resize_pad(size) or resize((h, w))"
            )
        image, frame = _at_top_left(image, frame)
        found = {"image": image}
        if self.kind == BOXES:
            found |= self._boxes(example["objects"], frame)
        else:
            found["label_map"] = frame.label_map(example["label_map"], VOID)
        found["content"] = np.array(frame.seen[2:], np.float32)
        found["original"] = np.array(frame.original, np.int32)
        return found

    def _boxes(self, objects: Objects, frame: Frame) -> dict[str, np.ndarray]:
        objects = objects.targets
        boxes = frame.boxes(objects.boxes)
        top, left, bottom, right = frame.seen
        window = np.array([left, top, right, bottom])
        cut = np.concatenate([np.maximum(boxes[:, :2], window[:2]),
                              np.minimum(boxes[:, 2:], window[2:])], 1)  # fmt: skip
        there = (cut[:, 2:] - cut[:, :2] > _THINNEST).all(1)
        for row in np.flatnonzero(there & (np.abs(cut - boxes) > 1e-6).any(1)):
            cut[row] = self._box_of_rest(objects, row, cut[row], frame)
        there &= (cut[:, 2:] - cut[:, :2] > _THINNEST).all(1)
        areas = np.prod(cut[:, 2:] - cut[:, :2], axis=1)
        # The largest, in their own order; of equal ones the first.
        rows = np.flatnonzero(there)
        rows = np.sort(rows[np.argsort(-areas[rows], kind="stable")][: self.max_boxes])
        number = len(rows)
        arrays = {
            "boxes": np.zeros((self.max_boxes, 4), np.float32),
            "box_labels": np.full(self.max_boxes, PADDING["box_labels"], np.int32),
        }
        arrays["boxes"][:number] = cut[rows]
        arrays["box_labels"][:number] = objects.labels[rows]
        if self.mask_size:
            side = self.mask_size
            arrays["box_masks"] = np.zeros((self.max_boxes, side, side), np.uint8)
            for place, row in enumerate(rows):
                arrays["box_masks"][place] = self._mask(objects, row, cut[row], frame)
        return arrays

    def _box_of_rest(self, objects: Objects, row: int, box: np.ndarray, frame: Frame) -> np.ndarray:
        """The box of what is left of a cut object, where its outline is known."""
        outline = objects.outlines[row]
        if outline is None:
            return box
        window = frame.inverse_boxes(box[None])[0]
        rest = outlines.bounds_in(outline, window, frame.original)
        moved = frame.boxes(rest[None])[0]
        # Not a rounding beyond the edges.
        return np.concatenate([np.maximum(moved[:2], box[:2]), np.minimum(moved[2:], box[2:])])

    def _mask(self, objects: Objects, row: int, box: np.ndarray, frame: Frame) -> np.ndarray:
        outline = objects.outlines[row]
        if outline is None:
            raise ValueError(
                f"data.mask_size: got {self.mask_size}, but an object has a box and no outline; "
                "0 learns from boxes alone"
            )
        window = frame.inverse_boxes(box[None])[0]
        mask = outlines.in_box(outline, window, self.mask_size, frame.original)
        return mask[:, ::-1] if frame.move.scale_x < 0 else mask


def _at_top_left(image: np.ndarray, frame: Frame) -> tuple[np.ndarray, Frame]:
    """A border above or left of the photograph, in whole pixels, goes to the other side."""
    # Sides are whole numbers but for what their arithmetic left.
    top, left = (math.floor(side + 1e-6) for side in frame.seen[:2])
    if not top and not left:
        return image, frame
    height, width = image.shape[:2]
    image = np.roll(image, (-top, -left), (0, 1))
    return image, frame.then(cropped(top, left, height, width))
