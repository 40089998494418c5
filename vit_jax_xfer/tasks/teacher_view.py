"""What a teacher sees: the student's augmented images in the teacher's own form."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax

from vit_jax_xfer.data.transforms import normalisation_of
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.views import Normalisation, size_for_grid, teacher_view

if TYPE_CHECKING:  # tasks import where there are no configs
    from ml_collections import ConfigDict

# How teacher_view can resize; a teacher prepared in another way gets the usual one.
INTERPOLATIONS: tuple[str, ...] = ("bilinear", "bicubic", "lanczos")


@dataclasses.dataclass(frozen=True)
class View:
    """The student's images (B, H, W, 3) → the teacher's; by default the same.

    seen, wanted: how the student's images are normalised and how the teacher's must be. size:
    (height, width) of the teacher's in pixels, None = as they are.
    """

    seen: Normalisation | None = None
    wanted: Normalisation | None = None
    size: tuple[int, int] | None = None
    interpolation: str = "bicubic"

    def __call__(self, images: jax.Array) -> jax.Array:
        if self.seen is None:
            return images
        wanted = self.wanted or self.seen
        return teacher_view(images, self.seen, wanted, self.size, self.interpolation)

    def shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape (H, W, 3) of the teacher's images."""
        return image_shape if self.size is None else (*self.size, image_shape[-1])


def view_of(
    config: ConfigDict,
    settings: Any,
    student: VisionTransformer,
    teacher: VisionTransformer,
    image_shape: tuple[int, ...],
) -> View:
    """The teacher's view of the images (H, W, 3) that `config.data` prepares; see TeacherSettings.

    ValueError, naming the field, where the pipelines don't tell what the student sees.
    """
    wanted = _wanted(settings, teacher)
    size = _size(settings.teacher_image_size, student, teacher, image_shape)
    if wanted is None and size is None:
        return View()
    interpolation = teacher.preprocessing.interpolation if teacher.preprocessing else "bicubic"
    if interpolation not in INTERPOLATIONS:
        interpolation = "bicubic"
    return View(_seen(config), wanted, size, interpolation)


def view_between(config: ConfigDict, wanted: Normalisation) -> View:
    """The images that `config.data` prepares, normalised as a backbone wants them.

    ValueError, naming the field, where the pipelines don't tell what they give.
    """
    return View(_seen(config), wanted)


def _wanted(settings: Any, teacher: VisionTransformer) -> Normalisation | None:
    given = {name: getattr(settings, name) for name in ("teacher_mean", "teacher_std")}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) == 1:
        raise ValueError(f"task.{missing[0]}: none given; teacher_mean and teacher_std go together")
    if missing:
        own = teacher.preprocessing
        return Normalisation(own.mean, own.std) if own else None
    for name, value in given.items():
        if len(value) != 3:
            raise ValueError(f"task.{name}: {tuple(value)} are not three numbers: red, green, blue")
    return Normalisation(*(tuple(map(float, value)) for value in given.values()))


def _size(
    asked: int, student: VisionTransformer, teacher: VisionTransformer, image_shape: tuple[int, ...]
) -> tuple[int, int] | None:
    if asked < -1:
        raise ValueError(
            f"task.teacher_image_size: {asked} is no number of pixels; 0 = the student's, "
            "-1 = what gives the student's grid"
        )
    if asked == -1:
        grid = student.grid_in(image_shape)
        return size_for_grid(grid, teacher.patch_size, teacher.patch_stride)
    return (asked, asked) if asked else None


def _seen(config: ConfigDict) -> Normalisation:
    """How every stream of the run normalises its images."""
    pipelines = {"data.pipeline": config.data.pipeline, "eval.pipeline": config.eval.pipeline}
    for name, section in config.eval.get("sets", {}).items():  # a run of 0.1 has no such field
        if section.pipeline:
            pipelines[f"eval.sets.{name}.pipeline"] = section.pipeline
    if config.unlabeled.source and config.unlabeled.pipeline:
        pipelines["unlabeled.pipeline"] = config.unlabeled.pipeline
    found = {field: normalisation_of(pipeline) for field, pipeline in pipelines.items()}
    for field, normalisation in found.items():
        if normalisation is None:
            raise ValueError(
                f"{field}: it normalises more than once, so the teacher's own view of its images "
                "can't be made; normalise once"
            )
        if normalisation != found["data.pipeline"]:
            raise ValueError(
                f"{field}: it normalises otherwise than data.pipeline, and the teacher's own view "
                "is made from one of them; normalise alike"
            )
    return Normalisation(*found["data.pipeline"])
