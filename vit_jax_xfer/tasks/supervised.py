"""Supervised classification: from scratch, fine-tuning, and the linear probe."""

import dataclasses
from typing import TYPE_CHECKING, ClassVar, Literal

import jax

from vit_jax_xfer.evaluate.classification import classification_sums, hits
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.tasks.configured_model import build_started, check_predicts, initial_variables
from vit_jax_xfer.tasks.task import (
    Aux,
    Batch,
    Task,
    Variables,
    binary_cross_entropy,
    smoothed_cross_entropy,
)
from vit_jax_xfer.tasks.teachers import Loader

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class ClassificationSettings:
    """The fields of `config.task` for "classification"."""

    label_smoothing: float = 0.0
    loss: Literal["softmax", "binary"] = "softmax"  # binary: each class for itself (DeiT III)


@dataclasses.dataclass
class Classification(Task):
    """Cross-entropy of a network's logits with the labels."""

    model: Network
    settings: ClassificationSettings
    initial: Variables | None = None
    frozen: Variables = dataclasses.field(default_factory=dict)
    name: ClassVar[str] = "classification"
    settings_type: ClassVar[type[ClassificationSettings]] = ClassificationSettings

    @classmethod
    def from_config(
        cls,
        config: "ConfigDict",
        settings: ClassificationSettings,
        image_shape: tuple[int, int, int],
        num_classes: int,
        load: Loader,
    ) -> "Classification":
        model, start = build_started(config, image_shape, num_classes, load)
        check_predicts(config.model, model, "classes")
        if settings.loss == "binary" and settings.label_smoothing:
            raise ValueError(
                f"task.label_smoothing: got {settings.label_smoothing}, and with "
                "task.loss='binary' any share makes a class true; set it to 0"
            )
        return cls(model, settings, initial_variables(config, model, start))

    def init(self, key: jax.Array) -> Variables:
        return self.model.init_variables(key)

    def loss(
        self, variables: Variables, frozen: Variables, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Aux]:
        # Statistics of batch norm, which not every network keeps, move with each batch.
        moving = [name for name in ("batch_stats",) if name in variables]
        logits, updates = self.model.apply(
            variables, batch["image"], True, rngs={"dropout": key}, mutable=moving
        )
        if self.settings.loss == "binary":
            losses = binary_cross_entropy(logits, batch["label"])
        else:
            smoothing = self.settings.label_smoothing
            losses = smoothed_cross_entropy(logits, batch["label"], smoothing)
        return losses.mean(), Aux({"top1": top1(logits, batch["label"])}, dict(updates))

    def evaluate(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> dict[str, jax.Array]:
        logits = self.predict(variables, frozen, batch["image"])
        return classification_sums(logits, batch["label"], batch["mask"], batch.get("scored"))

    def predict(self, variables: Variables, frozen: Variables, images: jax.Array) -> jax.Array:
        return self.model.apply(variables, images)

    def check(self, image_shape: tuple[int, ...]) -> None:
        self.model.num_tokens(image_shape)


def top1(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """The share of a batch whose true class has the highest logit (see `hits`), ()."""
    return hits(logits, targets, 1).mean()
