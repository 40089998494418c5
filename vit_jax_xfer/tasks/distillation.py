"""What attention transfer is compared with: distilling the teacher's logits, or its features."""

import dataclasses
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.collections import layer_values, stack_layers
from vit_jax_xfer.models.extract import first_blocks, resolve_layers
from vit_jax_xfer.tasks.task import Variables
from vit_jax_xfer.tasks.teaching import TeacherSettings, TeachingTask
from vit_jax_xfer.transfer.losses import mean_square
from vit_jax_xfer.transfer.tokens import check_same_layout, pair_layouts

Rngs = dict[str, jax.Array] | None


@dataclasses.dataclass(frozen=True)
class LogitDistillationSettings(TeacherSettings):
    """The fields of `config.task` for "logit_distillation"."""

    temperature: float = 1.0


@dataclasses.dataclass
class LogitDistillation(TeachingTask):
    """Cross-entropy with the teacher's softened classes (Hinton et al. 2015, 1503.02531)."""

    name: ClassVar[str] = "logit_distillation"
    settings_type: ClassVar[type[LogitDistillationSettings]] = LogitDistillationSettings

    def teach(
        self, variables: Variables, frozen: Variables, images: jax.Array, train: bool, rngs: Rngs
    ) -> tuple[jax.Array, jax.Array]:
        logits = self.model.apply(variables, images, train, rngs=rngs)
        teacher = jax.lax.stop_gradient(self.teacher.apply(frozen, self.view(images)))
        temperature = self.settings.temperature
        targets = jax.nn.softmax(teacher.astype(jnp.float32) / temperature)
        own = jax.nn.log_softmax(logits.astype(jnp.float32) / temperature)
        # The square keeps the gradient's size the same at any temperature.
        return logits, -(targets * own).sum(axis=-1) * temperature**2

    def networks_of_same_classes(self) -> dict[str, nn.Module]:
        return {"task.teacher": self.teacher}

    def check(self, image_shape: tuple[int, ...]) -> None:
        super().check(image_shape)  # nothing but classes is compared, so the tokens may differ
        if self.teacher.num_classes != self.model.num_classes:
            raise ValueError(
                f"task.teacher: it knows {self.teacher.num_classes} classes and the student "
                f"{self.model.num_classes}; logit distillation needs a fine-tuned teacher"
            )
        if self.settings.temperature <= 0:
            raise ValueError(f"task.temperature: {self.settings.temperature} is not positive")


@dataclasses.dataclass(frozen=True)
class FeatureDistillationSettings(TeacherSettings):
    """The fields of `config.task` for "feature_distillation"."""

    layers: tuple[int, ...] | None = None  # None = all
    normalize: bool = True  # standardise each token before comparing


@dataclasses.dataclass
class FeatureDistillation(TeachingTask):
    """Mean square between the residual streams after each block (2411.09702, appendix)."""

    name: ClassVar[str] = "feature_distillation"
    settings_type: ClassVar[type[FeatureDistillationSettings]] = FeatureDistillationSettings

    def teach(
        self, variables: Variables, frozen: Variables, images: jax.Array, train: bool, rngs: Rngs
    ) -> tuple[jax.Array, jax.Array]:
        layers = resolve_layers(self.settings.layers, self.model.depth)
        logits, own = self.model.apply(variables, images, train, rngs=rngs, mutable=["residual"])
        teacher, frozen = first_blocks(self.teacher, frozen, max(layers) + 1)
        _, other = teacher.apply(frozen, self.view(images), mutable=["residual"])
        residuals = own["residual"], other["residual"]
        if all("blocks" in one for one in residuals):
            # Layer by layer in a loop: a program as long for any depth.
            stacks = tuple(stack_layers(one, ("stream",), layers) for one in residuals)
            losses = jax.lax.map(lambda pair: self._distance(*pair), stacks)
            return logits, losses.sum(axis=0)
        pairs = zip(*(layer_values(one, ("stream",), layers) for one in residuals), strict=True)
        return logits, sum(self._distance(*pair) for pair in pairs)

    def _distance(self, own: jax.Array, other: jax.Array) -> jax.Array:
        """Of one layer's streams (B, T, C), (B,)."""
        return mean_square(self._scaled(own), self._scaled(other))

    def _scaled(self, stream: jax.Array) -> jax.Array:
        stream = stream.astype(jnp.float32)
        if not self.settings.normalize:
            return stream
        return jax.nn.standardize(stream, axis=-1, epsilon=1e-6)

    def check(self, image_shape: tuple[int, ...]) -> None:
        self.model.num_tokens(image_shape)
        shapes = image_shape, self.view.shape(image_shape)
        layouts = pair_layouts(self.model, self.teacher, *shapes)
        check_same_layout(*layouts, "give model.* the teacher's, or model.name='student_like'")
        resolve_layers(self.settings.layers, self.model.depth)
        for field in ("width", "depth"):
            if getattr(self.teacher, field) != getattr(self.model, field):
                raise ValueError(
                    f"task.teacher: its {field} {getattr(self.teacher, field)} differs from the "
                    f"student's {getattr(self.model, field)}"
                )
