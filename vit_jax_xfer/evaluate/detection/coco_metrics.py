"""COCO's average precision of boxes and masks, by pycocotools, as published figures are made.

Lin et al., arXiv 1405.0312. Needs pip install "vit_jax_xfer[coco]".
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from vit_jax_xfer.data.objects import Objects
from vit_jax_xfer.data.outlines import mask_functions, run_lengths
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def coco_figures(
    found: Sequence[FoundObjects], truth: Sequence[Objects], num_classes: int, masks: bool = False
) -> dict[str, float]:
    """The twelve figures of COCO's evaluation, from 0 to 1, NaN where no object is of that kind.

    found, truth: of the same photographs, in the same order; truth with crowds, for one of which
    VOC's "difficult" objects are taken. masks: overlaps are those of outlines, which all of both
    have; figures are then called "mask_AP" and so on.
    """
    evaluation = evaluate(found, truth, num_classes, masks)
    prefix = "mask_" if masks else ""
    return {
        prefix + name: float(value) if value >= 0 else float("nan")
        for name, value in zip(FIGURES, evaluation.stats, strict=True)
    }


def evaluate(
    found: Sequence[FoundObjects], truth: Sequence[Objects], num_classes: int, masks: bool
) -> Any:
    """pycocotools' COCOeval, summarised. ValueError where there is nothing to compare."""
    mask_functions()
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if len(found) != len(truth) or not found:
        raise ValueError(f"found: of {len(found)} photographs, expected {len(truth)}, as of truth")
    kind = "segm" if masks else "bbox"
    categories = [{"id": number} for number in range(1, num_classes + 1)]
    images = [
        {"id": number, "height": one.size[0], "width": one.size[1]}
        for number, one in enumerate(found, start=1)
    ]
    # pycocotools prints what it does.
    with contextlib.redirect_stdout(io.StringIO()):
        there, here = COCO(), COCO()
        there.dataset = {"images": images, "categories": categories}
        here.dataset = dict(there.dataset)
        there.dataset["annotations"] = _truths(found, truth, masks)
        here.dataset["annotations"] = _results(found, masks)
        there.createIndex()
        here.createIndex()
        evaluation = COCOeval(there, here, kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _truths(
    found: Sequence[FoundObjects], truth: Sequence[Objects], masks: bool
) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for image, (one, objects) in enumerate(zip(found, truth, strict=True), start=1):
        for row in range(len(objects)):
            entry = {
                "id": len(entries) + 1,
                "image_id": image,
                "category_id": int(objects.labels[row]) + 1,
                "bbox": as_corner_and_sides(objects.boxes[row]),
                "area": float(objects.areas[row]),
                # pycocotools' own word for neither found nor missed.
                "iscrowd": int(objects.crowd[row] or objects.hard[row]),
            }
            if masks:
                outline = objects.outlines[row]
                if outline is None:
                    raise ValueError("truth: an object has a box and no outline; use masks=False")
                entry["segmentation"] = run_lengths(outline, one.size)
            entries.append(entry)
    return entries


def _results(found: Sequence[FoundObjects], masks: bool) -> list[dict[str, Any]]:
    """Each with the area by which COCO sorts it into sizes: its mask's where masks are compared."""
    area = mask_functions().area
    entries: list[dict[str, Any]] = []
    for image, one in enumerate(found, start=1):
        if masks and one.outlines is None:
            raise ValueError("found: detections have no masks; use masks=False")
        for row in range(len(one)):
            box = as_corner_and_sides(one.boxes[row])
            entry = {
                "id": len(entries) + 1,
                "image_id": image,
                "category_id": int(one.classes[row]) + 1,
                "score": float(one.scores[row]),
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            if masks:
                entry["segmentation"] = one.outlines[row]
                entry["area"] = float(area(one.outlines[row]))
            entries.append(entry)
    return entries


def as_corner_and_sides(box: np.ndarray) -> list[float]:
    """COCO's x, y, width, height of a box xyxy."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return [x0, y0, x1 - x0, y1 - y0]


def coco_results(
    found: Sequence[FoundObjects], image_ids: Sequence[Any], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """The list that COCO's servers and tools read: {image_id, category_id, bbox, score, …}.

    category_ids: of the model's classes; below 0 = none in that data set, left out. Run lengths are
    text, as JSON wants them.
    """
    entries = []
    for image, one in zip(image_ids, found, strict=True):
        for row in range(len(one)):
            category = int(category_ids[one.classes[row]])
            if category < 0:
                continue
            entry: dict[str, Any] = {
                "image_id": image,
                "category_id": category,
                "bbox": [round(edge, 3) for edge in as_corner_and_sides(one.boxes[row])],
                "score": round(float(one.scores[row]), 6),
            }
            if one.outlines is not None:
                counts = one.outlines[row]["counts"]
                text = counts.decode() if isinstance(counts, bytes) else counts
                entry["segmentation"] = {"size": [int(side) for side in one.size], "counts": text}
            entries.append(entry)
    return entries
