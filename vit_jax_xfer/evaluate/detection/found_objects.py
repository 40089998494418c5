"""What a detector found, in the photographs' own pixels."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax_xfer.data.outlines import mask_functions


@dataclasses.dataclass(frozen=True, eq=False)
class FoundObjects:
    """The objects found on one photograph, by falling score.

    boxes: (n, 4) float64 xyxy in its pixels, cut at its edges. scores: (n,) float64. classes: (n,)
    int32, the model's numbers. outlines: COCO's run lengths of each, None = not looked for. size:
    the photograph's (height, width).
    """

    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    outlines: tuple[dict[str, Any], ...] | None
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.boxes)


def on_photographs(
    rows: Mapping[str, np.ndarray], masks: bool = True, names: Sequence[object] = ()
) -> list[FoundObjects]:
    """Detections of prepared images → of their photographs.

    rows: of each image boxes (B, D, 4), scores, classes and valid (B, D), perhaps masks
    (B, D, m, m) of probabilities in the boxes' frames, and what a batch of an evaluation has,
    content (B, 2) and original (B, 2). masks: False leaves outlines away. names: of the images, for
    errors. ValueError where a detection is no number, which would be sorted anywhere.
    """
    arrays = {name: np.asarray(rows[name]) for name in ("boxes", "scores", "classes", "valid")}
    probabilities = rows.get("masks") if masks else None
    found = []
    for row, valid in enumerate(arrays["valid"].astype(bool)):
        boxes, scores = (
            arrays[name][row][valid].astype(np.float64) for name in ("boxes", "scores")
        )
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            name = f"{names[row]}: " if row < len(names) else ""
            raise ValueError(
                f"{name}boxes, scores: some detections are no numbers; did the training diverge?"
            )
        height, width = (int(side) for side in rows["original"][row])
        content = np.maximum(np.asarray(rows["content"][row], np.float64), 1e-9)  # 0 on padding
        scale = np.tile((width / content[1], height / content[0]), 2)
        boxes = np.clip(boxes * scale, 0, (width, height) * 2)
        order = np.argsort(-scores, kind="stable")
        outlines = None
        if probabilities is not None:
            inside = np.asarray(probabilities[row], np.float32)[valid][order]
            outlines = _pasted(inside, boxes[order], height, width)
        found.append(
            FoundObjects(
                boxes[order],
                scores[order],
                arrays["classes"][row][valid][order].astype(np.int32),
                outlines,
                (height, width),
            )
        )
    return found


def _pasted(
    masks: np.ndarray, boxes: np.ndarray, height: int, width: int
) -> tuple[dict[str, Any], ...]:
    """Run lengths of masks (n, m, m) in their boxes, one at a time: a photograph may be large."""
    from vit_jax_xfer.detection.region_masks import paste_masks

    encode = mask_functions().encode
    whole = (
        paste_masks(mask[None], box[None], height, width)[0]
        for mask, box in zip(masks, boxes, strict=True)
    )
    return tuple(encode(np.asfortranarray(one.astype(np.uint8))) for one in whole)
