"""Detection: boxes, and perhaps masks, of objects, from any encoder that gives maps."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import numpy as np

from vit_jax_xfer.data.outlines import mask_functions
from vit_jax_xfer.data.sources.class_match import ClassMatch
from vit_jax_xfer.data.sources.source import Source
from vit_jax_xfer.data.target_arrays import BOXES
from vit_jax_xfer.evaluate.detection.coco_metrics import FIGURES
from vit_jax_xfer.evaluate.detection.detection_figures import figures_of, renumbered
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects, on_photographs
from vit_jax_xfer.models.dense.counted_mean import CountedMean
from vit_jax_xfer.models.dense.detector import Detector
from vit_jax_xfer.tasks.dense_task import DenseSettings, DenseTask, Maps, read
from vit_jax_xfer.tasks.task import Batch, Variables

# What a batch tells of an image's objects, beside the image.
_TARGETS = ("boxes", "box_labels", "box_masks", "content")


@dataclasses.dataclass(frozen=True)
class DetectionSettings(DenseSettings):
    """The fields of `config.task` for "detection"."""


@dataclasses.dataclass
class Detection(DenseTask):
    """A detector's losses, each of weight 1; COCO's AP over an evaluation set."""

    model: Detector
    name: ClassVar[str] = "detection"
    settings_type: ClassVar[type[DetectionSettings]] = DetectionSettings
    targets: ClassVar[str] = BOXES
    predicts: ClassVar[str] = "boxes"

    def learn(
        self, network: Detector, maps: Maps, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, CountedMean], dict[str, CountedMean]]:
        targets = {name: batch[name] for name in _TARGETS if name in batch}
        return network.decode_losses(maps, batch["image"], targets, key), {}

    def evaluate(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> dict[str, jax.Array]:
        """The number of images, and under "rows" what is found on each."""
        maps, sums = self.evaluated(variables, frozen, batch)
        images, content = batch["image"], batch["content"]
        found = self.model.apply(
            variables,
            method=lambda network: network.decode(
                read(network, images, maps), images, content=content
            ),
        )
        rows = {name: x for name, x in vars(found).items() if x is not None}
        of_image = {name: batch[name] for name in ("content", "original")}
        return {**sums, "rows": {**rows, **of_image}}

    def scorer(self, source: Source, match: ClassMatch) -> "AveragePrecision":
        return AveragePrecision(source, match, self.model.num_classes)

    @property
    def metrics(self) -> tuple[str, ...]:
        masks = (f"mask_{name}" for name in FIGURES if self.model.has_masks)
        return (*FIGURES, *masks, "voc_AP50", *self.metrics_of_teacher)

    def check(self, image_shape: tuple[int, ...]) -> None:
        super().check(image_shape)
        mask_functions()  # raises where COCO's figures can't be made


class AveragePrecision:
    """COCO's figures of what is found on a set's photographs; see `tasks.task.Scorer`."""

    def __init__(self, source: Source, match: ClassMatch, num_classes: int):
        self._source, self._table, self._classes = source, match.table, num_classes
        self._found: dict[int, FoundObjects] = {}
        self._masks = not source.without_outline

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Takes the detections of some photographs, whose places in the source are "index"."""
        self._masks &= "masks" in rows
        for place, found in zip(rows["index"], on_photographs(rows, self._masks), strict=True):
            self._found[int(place)] = found

    def figures(self) -> dict[str, float]:
        """The figures of all photographs so far, from 0 to 1; those of sizes that are there."""
        # By place, so that equal scores are met in one order on any number of devices.
        places = sorted(self._found)
        truth = [renumbered(self._source.target(place), self._table) for place in places]
        found = [self._found[place] for place in places]
        figures = figures_of(found, truth, self._classes, self._masks)
        return {name: value for name, value in figures.items() if not math.isnan(value)}
