"""What a network sees of a photograph: how it is prepared, and which part of it that is."""

import dataclasses
from typing import Any

from vit_jax_xfer.data.geometry import CenterCrop
from vit_jax_xfer.data.transforms import parse
from vit_jax_xfer.explain.cells import Cells, even_cells, pixels, placed_cells, stage_axes
from vit_jax_xfer.explain.overlay import Box
from vit_jax_xfer.models.cell_places import patch_places
from vit_jax_xfer.models.preprocessing import IMAGENET, Preprocessing
from vit_jax_xfer.terminal import show


def preparation(
    model: Any, size: int | tuple[int, int] | None = None, whole: bool = False
) -> Preprocessing:
    """How images are prepared for a network, as `data.preprocess` takes it.

    size: in place of the network's own. whole: all of an image, resized to the size, in place of
    the crop. A network that says nothing gets its `assumed_mean_std`.
    """
    found = model.preprocessing or Preprocessing(
        *model.assumed_mean_std, interpolation="bilinear", size=model.image_size
    )
    if size is not None:
        found = dataclasses.replace(found, size=size)
    return dataclasses.replace(found, crop=1.0, crop_mode="squash") if whole else found


def say_assumed(model: Any, source: str) -> None:
    """A line on stderr where a network doesn't say how its images are prepared; see `preparation`.

    source: what the network came from.
    """
    if model.preprocessing is None:
        mean, std = model.assumed_mean_std
        known = (mean, std) == IMAGENET
        words = "ImageNet's mean and std" if known else f"mean {mean[0]}, std {std[0]}"
        show(f"{source} does not say how images are prepared: {words} assumed", name="stderr")


def seen_box(preprocessing: Preprocessing, photo: tuple[int, int]) -> Box:
    """Where the prepared image lies in a photograph of (height, width), in its pixels."""
    resize, *others = parse(preprocessing.pipeline()).ops
    crop = next((op for op in others if isinstance(op, CenterCrop)), None)
    sides, resized = preprocessing.height_width, resize.target(*photo)
    starts = [
        crop.start(large - small) if crop else 0
        for large, small in zip(resized, sides, strict=True)
    ]
    (top, bottom), (left, right) = (
        (start * full / large, (start + small) * full / large)
        for start, small, large, full in zip(starts, sides, resized, photo, strict=True)
    )
    return top, left, bottom, right


def map_cells(model: Any, shape: tuple[int, int], image_size: tuple[int, int]) -> Cells:
    """Where the cells of a map of `shape` lie on an image of (height, width) that a network sees.

    Of a FilterViT those of the first of its maps that has this shape; of a map of patches theirs,
    which may overlap, or leave out pixels at the end; else even ones.
    """
    if "filter" in model.collections:
        sides = (stage_axes(model, pixels(number)) for number in image_size)
        for stage, (rows, columns) in enumerate(zip(*sides, strict=True)):
            if (len(rows), len(columns)) == shape:
                return Cells(stage, image_size, rows, columns)
    if "attention" in model.collections:
        places = patch_places(image_size, model.patch_size, model.patch_stride)
        if places.grid == tuple(shape):
            return placed_cells(places, image_size)
    return even_cells(shape, image_size)
