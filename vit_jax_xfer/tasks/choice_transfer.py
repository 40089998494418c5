"""A FilterViT learns which pixels to keep from where a vision transformer looks.

This project's own: where attention transfer (2411.09702) meets FilterViT (2410.22709). A FilterViT
has no attention map that a teacher's could replace, but it chooses where attention runs at all.
"""

import dataclasses
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.collections import resolve_layers
from vit_jax_xfer.models.filter import selection
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.tasks.configured_model import build_model, initial_variables
from vit_jax_xfer.tasks.task import Shown, Variables
from vit_jax_xfer.tasks.teacher_view import view_of
from vit_jax_xfer.tasks.teachers import Loader, load_teacher, run_like
from vit_jax_xfer.tasks.teaching import TeacherSettings, TeachingTask
from vit_jax_xfer.transfer.class_attention import check_looks, class_attention, on_grid

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict

Rngs = dict[str, jax.Array] | None


@dataclasses.dataclass(frozen=True)
class ChoiceTransferSettings(TeacherSettings):
    """The fields of `config.task` for "choice_transfer".

    mode: "distill" teaches the importance of pixels; with "copy" those are kept where the teacher
    looks most, at evaluation too. layer: of the teacher, whose class token is followed.
    """

    mode: Literal["distill", "copy"] = "distill"
    layer: int = -1


@dataclasses.dataclass
class ChoiceTransfer(TeachingTask):
    """The choices of a FilterViT follow its teacher's class token."""

    model: FilterViT
    settings: ChoiceTransferSettings
    name: ClassVar[str] = "choice_transfer"
    settings_type: ClassVar[type[ChoiceTransferSettings]] = ChoiceTransferSettings

    @classmethod
    def from_config(
        cls,
        config: "ConfigDict",
        settings: ChoiceTransferSettings,
        image_shape: tuple[int, int, int],
        num_classes: int,
        load: Loader,
    ) -> "ChoiceTransfer":
        model = build_model(config.model, image_shape, num_classes)
        if not isinstance(model, FilterViT):
            raise ValueError(
                f"model.name: {config.model['name']} keeps all pixels; choose a filter_vit_*"
            )
        if settings.teacher_image_size == -1:
            raise ValueError("task.teacher_image_size: -1 asks for the student's patches, and a "
                             "FilterViT has none; give pixels")  # fmt: skip
        teacher, frozen = load_teacher(settings, load)
        teacher = run_like(teacher, model, settings)
        view = view_of(config, settings, model, teacher, image_shape)
        return cls(model, settings, teacher, frozen, initial_variables(config, model), view)

    @classmethod
    def copies(cls, mode: str) -> bool:
        return mode == "copy"

    def teach_training(
        self, variables: Variables, frozen: Variables, images: jax.Array, train: bool, rngs: Rngs
    ) -> tuple[jax.Array, jax.Array, Variables]:
        looks = jax.lax.stop_gradient(self._looks(frozen, images))
        mutable = ["filter", *(["batch_stats"] if train else [])]
        copies = self.settings.mode == "copy"
        if copies:
            variables = {**variables, "given": self._given(variables, images, looks)}
        logits, found = self.model.apply(variables, images, train, rngs=rngs, mutable=mutable)
        found = dict(found)
        stages = found.pop("filter").values()
        if copies:
            return logits, jnp.zeros(len(images)), found
        return logits, sum(_distance(stage["importance"], looks) for stage in stages), found

    def teach(
        self, variables: Variables, frozen: Variables, images: jax.Array, train: bool, rngs: Rngs
    ) -> tuple[jax.Array, jax.Array]:
        return self.teach_training(variables, frozen, images, train, rngs)[:2]

    def predict(self, variables: Variables, frozen: Variables, images: jax.Array) -> jax.Array:
        if self.settings.mode != "copy":
            return super().predict(variables, frozen, images)
        # A student that keeps what its teacher looks at needs the teacher for good.
        return self.teach(variables, frozen, images, False, None)[0]

    def networks_shown(self) -> dict[str, Shown]:
        def applied(
            variables: Variables, frozen: Variables, images: jax.Array
        ) -> tuple[Variables, jax.Array]:
            if self.settings.mode != "copy":
                return variables, images
            given = self._given(variables, images, self._looks(frozen, images))
            return {**variables, "given": given}, images

        return {**super().networks_shown(), "model": Shown(self.model, applied)}

    def check_unlabeled(self) -> None:
        if self.settings.mode == "copy":
            raise ValueError("unlabeled.source: task.mode='copy' has no loss of its own, so images "
                             "without labels teach nothing; leave it empty, or distil")  # fmt: skip

    def check(self, image_shape: tuple[int, ...]) -> None:
        super().check(image_shape)
        if self.model.choose != "score" or not self.model.filter_stages:
            raise ValueError(
                f"model.choose, model.attend: {self.model.choose!r} and {self.model.attend!r} "
                "score no pixels, so there is nothing to teach; leave both out"
            )
        try:
            (layer,) = resolve_layers((self.settings.layer,), self.teacher.depth)
            check_looks(self.teacher, layer)
        except ValueError as error:
            raise ValueError(f"task.{str(error).replace('layers:', 'layer:')}") from None

    def _looks(self, frozen: Variables, images: jax.Array) -> jax.Array:
        """Where the teacher looks, (B, h, w)."""
        return class_attention(self.teacher, frozen, self.view(images), self.settings.layer)

    def _given(self, variables: Variables, images: jax.Array, looks: jax.Array) -> Any:
        """The collection `given` that keeps in each stage the pixels most looked at."""

        def choices(variables: Variables, images: jax.Array) -> Any:
            return self.model.apply(variables, images, mutable=["filter"])[1]["filter"]

        given = {}
        for name, stage in jax.eval_shape(choices, variables, images).items():
            shares = on_grid(looks, stage["importance"].shape[1:])
            number = stage["kept"].shape[1]
            given[name] = {"kept": selection.best(shares.reshape(len(images), -1), number)}
        return given


def _distance(importance: jax.Array, looks: jax.Array) -> jax.Array:
    """Cross-entropy of the teacher's shares with the student's, over the pixels of a map: (B,).

    The student's are the softmax of its scores before the sigmoid.
    """
    shares = on_grid(looks, importance.shape[1:]).reshape(len(looks), -1)
    bounded = jnp.clip(importance.reshape(shares.shape), 1e-6, 1 - 1e-6)
    scores = jnp.log(bounded) - jnp.log1p(-bounded)
    return -(shares * jax.nn.log_softmax(scores)).sum(axis=-1)
