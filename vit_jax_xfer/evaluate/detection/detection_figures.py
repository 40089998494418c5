"""All figures of a detector on a set: COCO's of boxes and masks, and VOC's."""

import dataclasses

import numpy as np

from vit_jax_xfer.data.objects import Objects
from vit_jax_xfer.evaluate.detection.coco_metrics import coco_figures
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects
from vit_jax_xfer.evaluate.detection.voc_metrics import voc_figures


def figures_of(
    found: list[FoundObjects], truth: list[Objects], num_classes: int, masks: bool
) -> dict[str, float]:
    """COCO's figures, of masks too where asked for, and VOC's at an overlap of 0.5, "voc_AP50".

    Of photographs in the same order in both; from 0 to 1, NaN where no object is of a kind.
    """
    figures = coco_figures(found, truth, num_classes)
    if masks:
        figures |= coco_figures(found, truth, num_classes, masks=True)
    return figures | {"voc_AP50": voc_figures(found, truth, num_classes).mean}


def renumbered(objects: Objects, table: np.ndarray | None) -> Objects:
    """The same objects with the model's class numbers."""
    return objects if table is None else dataclasses.replace(objects, labels=table[objects.labels])
