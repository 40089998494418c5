"""Attention transfer: a student's attention is its teacher's, by copy or by loss (2411.09702)."""

import dataclasses
from typing import Any, ClassVar

import jax

from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.tasks.task import Batch, Shown, Variables
from vit_jax_xfer.tasks.teacher_view import View
from vit_jax_xfer.tasks.teaching import TeacherSettings, TeachingTask
from vit_jax_xfer.transfer.forward import (
    check_shared_depth,
    copied_attention,
    paired_forward,
)
from vit_jax_xfer.transfer.spec import Transfer


@dataclasses.dataclass(frozen=True)
class AttentionTransferSettings(TeacherSettings):
    """The fields of `config.task` for "attention_transfer"."""

    transfer: Transfer = Transfer()  # its fields are fields of `config.task`
    weight: float = 3.0
    share_drop_path: bool = False  # drop the student's branches in the teacher too


@dataclasses.dataclass
class AttentionTransfer(TeachingTask):
    """The teacher's attention, copied into the student or distilled into its own."""

    name: ClassVar[str] = "attention_transfer"
    settings_type: ClassVar[type[AttentionTransferSettings]] = AttentionTransferSettings

    @classmethod
    def copies(cls, mode: str) -> bool:
        return Transfer(mode).copies

    def teach(
        self,
        variables: Variables,
        frozen: Variables,
        images: jax.Array,
        train: bool,
        rngs: dict[str, jax.Array] | None,
        counted: jax.Array | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        return paired_forward(
            self.settings.transfer,
            self.model,
            variables,
            self.teacher,
            frozen,
            images,
            train=train,
            rngs=rngs,
            share_drop_path=self.settings.share_drop_path,
            teacher_images=self.view(images),
            counted=counted,
        )

    def teach_batch(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> tuple[jax.Array, jax.Array]:
        return self.teach(variables, frozen, batch["image"], False, None, batch["mask"])

    def predict(self, variables: Variables, frozen: Variables, images: jax.Array) -> jax.Array:
        if not self.settings.transfer.copies:
            return super().predict(variables, frozen, images)
        # A student that computes with its teacher's attention needs the teacher for good.
        return self.teach(variables, frozen, images, False, None)[0]

    def networks_shown(self) -> dict[str, Shown]:
        shown = super().networks_shown()
        own = copying_student(self.settings.transfer, self.model, self.teacher, self.view)
        return {**shown, "model": own}

    def check_unlabeled(self) -> None:
        refuse_unlabeled_copies(self.settings.transfer)

    def check(self, image_shape: tuple[int, ...]) -> None:
        self.model.num_tokens(image_shape)
        check_pair(self.settings, self.model, self.teacher, image_shape, self.view)


def copying_student(
    transfer: Transfer, student: VisionTransformer, teacher: VisionTransformer, view: View
) -> Shown:
    """A student as it computes: with the teacher's attention, which a copying one needs for good.

    Its variables are the student's own; frozen ones are the teacher's.
    """

    def applied(
        variables: Variables, frozen: Variables, images: jax.Array
    ) -> tuple[Variables, jax.Array]:
        if not transfer.copies:
            return variables, images
        pair = transfer, student, teacher, frozen
        return {**variables, "given": copied_attention(*pair, images, view(images))}, images

    return Shown(student, applied)


def refuse_unlabeled_copies(transfer: Transfer) -> None:
    """ValueError, naming the fields, where images without labels would teach nothing."""
    if transfer.copies:
        raise ValueError(
            f"unlabeled.source: task.mode={transfer.mode!r} copies, which has no "
            "loss of its own, so images without labels teach nothing; leave it empty, or distil"
        )


def check_pair(
    settings: Any,
    student: VisionTransformer,
    teacher: VisionTransformer,
    image_shape: tuple[int, ...],
    view: View,
) -> None:
    """ValueError for a transfer that can't be between the two, on images (H, W, 3).

    settings: with `transfer` and `share_drop_path`.
    """
    settings.transfer.check(student, teacher, image_shape, view.shape(image_shape))
    if settings.share_drop_path:
        check_shared_depth(student, teacher)
