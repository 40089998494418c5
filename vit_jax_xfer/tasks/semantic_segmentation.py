"""Semantic segmentation: the class of each pixel, from any encoder that gives maps."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vit_jax_xfer.data.target_arrays import LABEL_MAP, VOID
from vit_jax_xfer.evaluate.segmentation.segmentation_metrics import (
    confusion_matrix,
    segmentation_score,
)
from vit_jax_xfer.models.dense.counted_mean import CountedMean
from vit_jax_xfer.models.dense.segmentation_network import SegmentationNetwork
from vit_jax_xfer.models.dense.sliding_window import sliding_logits, window_starts
from vit_jax_xfer.tasks.dense_task import DenseSettings, DenseTask, Maps, read
from vit_jax_xfer.tasks.task import Batch, Variables


@dataclasses.dataclass(frozen=True)
class SegmentationSettings(DenseSettings):
    """The fields of `config.task` for "segmentation"."""

    auxiliary_weight: float = 0.4  # of each auxiliary head's loss beside the head's
    # At evaluation images go through in windows of so many pixels, begun so many apart, whose
    # logits are averaged; 0 = whole images.
    window: int = 0
    window_stride: int = 0


@dataclasses.dataclass
class Segmentation(DenseTask):
    """Cross-entropy of each labelled pixel; mIoU over all pixels of an evaluation set."""

    model: SegmentationNetwork
    name: ClassVar[str] = "segmentation"
    settings_type: ClassVar[type[SegmentationSettings]] = SegmentationSettings
    targets: ClassVar[str] = LABEL_MAP
    predicts: ClassVar[str] = "masks"

    def learn(
        self, network: SegmentationNetwork, maps: Maps, batch: Batch, key: jax.Array
    ) -> tuple[dict[str, CountedMean], dict[str, CountedMean]]:
        logits, auxiliary = network.decode_all(maps, batch["image"], True)
        labels = batch["label_map"]
        losses = {"pixel": pixel_loss(logits, labels)}
        if auxiliary:
            others = [pixel_loss(one, labels) for one in auxiliary]
            of_all = losses["pixel"].replace(total=sum(one.total for one in others))
            losses["auxiliary"] = of_all.scaled(self.settings.auxiliary_weight)
        accuracy = CountedMean.of(logits.argmax(-1) == labels, labels != VOID)
        return losses, {"pixel_accuracy": accuracy}

    def evaluate(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> dict[str, jax.Array]:
        """Sums of images, and of their pixels the `confusion` matrix (K, K) int32."""
        labels = jnp.where(batch["mask"][:, None, None], batch["label_map"], VOID)
        maps, sums = self.evaluated(variables, frozen, batch)
        if self.settings.window and maps is None:
            size = (self.settings.window,) * 2
            stride = (self.settings.window_stride or self.settings.window,) * 2
            logits = sliding_logits(
                lambda crops: self.model.apply(variables, crops),
                batch["image"],
                size,
                stride,
                content=batch["content"],
            )
        else:
            logits = self.model.apply(
                variables,
                method=lambda network: network.decode(
                    read(network, batch["image"], maps), batch["image"]
                ),
            )
        each = jax.vmap(lambda *image: pixel_loss(*image).mean())(logits[:, None], labels[:, None])
        classes = self.model.num_classes
        confusion = confusion_matrix(logits.argmax(-1), labels.astype(jnp.int32), classes)
        return {**sums, "loss": each.sum(), "confusion": confusion}

    def figures(self, sums: Mapping[str, np.ndarray]) -> dict[str, float]:
        """`miou`, the mean over the classes that occur, and `pixel_accuracy`, of all pixels."""
        score = segmentation_score(sums["confusion"])
        return {"miou": score.mean_iou, "pixel_accuracy": float(score.accuracy)}

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("loss", "miou", "pixel_accuracy", *self.metrics_of_teacher)

    def check(self, image_shape: tuple[int, ...]) -> None:
        window, stride = self.settings.window, self.settings.window_stride
        if window < 0 or (window and self.teacher is not None):
            raise ValueError(
                f"task.window: got {window}; expected 0, or pixels of a window in a run without a "
                "teacher, which sees whole images"
            )
        try:
            window_starts(1, window or 1, stride or window or 1)
        except ValueError:
            raise ValueError(
                f"task.window_stride: got {stride}, expected from 1 to task.window, {window}; 0 = "
                "as that"
            ) from None
        super().check((window, window, 3) if window else image_shape)


def pixel_loss(logits: jax.Array, labels: jax.Array) -> CountedMean:
    """The cross-entropy of pixels (B, H, W, K) whose label (B, H, W) is not VOID."""
    known = labels != VOID
    each = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), jnp.where(known, labels, 0).astype(jnp.int32)
    )
    return CountedMean.of(each, known)
