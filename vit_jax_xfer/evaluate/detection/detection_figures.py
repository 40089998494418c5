"""The figures of a detector on a set: from rows of detections and the set's own objects."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from vit_jax_xfer.data.objects import Objects
from vit_jax_xfer.data.sources.source import Source
from vit_jax_xfer.evaluate.detection.coco_metrics import coco_figures
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects, on_photographs
from vit_jax_xfer.evaluate.detection.voc_metrics import voc_figures


def detection_figures(
    rows: Mapping[str, np.ndarray],
    source: Source,
    num_classes: int,
    table: np.ndarray | None = None,
) -> dict[str, float]:
    """AP and its kin of boxes, of masks too where rows and set have them, and VOC's AP50.

    rows: as `on_photographs` takes them, of all images of an evaluation in any order, with "index",
    each image's place in the source, and "mask", False on padding. num_classes: the model's. table:
    from the set's class numbers to the model's; None = they are the same. Images that couldn't be
    read are in no figure. All are from 0 to 1.
    """
    there = np.flatnonzero(np.asarray(rows["mask"], bool))
    # By place, so that equal scores are met in one order on any number of devices.
    there = there[np.argsort(np.asarray(rows["index"])[there], kind="stable")]
    if not len(there):
        raise ValueError("rows: no image of the set could be evaluated")
    chosen = {name: np.asarray(array)[there] for name, array in rows.items()}
    truth = [renumbered(source.target(int(place)), table) for place in chosen["index"]]
    masks = "masks" in chosen and not source.without_outline
    return figures_of(on_photographs(chosen, masks), truth, num_classes, masks)


def figures_of(
    found: list[FoundObjects], truth: list[Objects], num_classes: int, masks: bool
) -> dict[str, float]:
    """COCO's figures and VOC's, of photographs in the same order in both."""
    figures = coco_figures(found, truth, num_classes)
    if masks:
        figures |= coco_figures(found, truth, num_classes, masks=True)
    return figures | {"voc_AP50": voc_figures(found, truth, num_classes).mean}


def renumbered(objects: Objects, table: np.ndarray | None) -> Objects:
    """The same objects with the model's class numbers."""
    return objects if table is None else dataclasses.replace(objects, labels=table[objects.labels])
