"""Where the cells of a filter network's maps lie on its input image: plain arrays.

Coordinates are pixels of the input image, of which pixel i covers i to i + 1. A cell's centre is
the middle of the pixels that its convolutions see; its edges share the image out among the cells.
"""

import dataclasses
from typing import Any

import numpy as np

from vit_jax_xfer.models.cell_places import CellAxis, CellPlaces, even_places

STEM_KERNEL = 5  # without padding
DEPTHWISE_KERNEL = 3  # with padding 1, the only other convolution that is wider than a pixel


@dataclasses.dataclass(frozen=True, eq=False)
class Axis:
    """The cells of one side of a map, n of them.

    centres: (n,) float64. edges: (n + 1,) float64, cell i covers edges[i] to edges[i + 1], which
    at the border may lie outside the image, or leave a strip of it to no cell.
    seen: (n, 2) int64, first pixel and end of what the convolutions before a cell see; attention
    and importances see further.
    """

    centres: np.ndarray
    edges: np.ndarray
    seen: np.ndarray

    def __len__(self) -> int:
        return len(self.centres)


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """The map among whose pixels filter stage `stage` chooses, for images of (height, width)."""

    stage: int
    image_size: tuple[int, int]
    rows: Axis
    columns: Axis

    @property
    def shape(self) -> tuple[int, int]:
        """The map's (height, width)."""
        return len(self.rows), len(self.columns)


def stage_cells(model: Any, image_size: int | tuple[int, int]) -> tuple[Cells, ...]:
    """The cells of each filter stage of a FilterViT, in order, for images of (height, width).

    A stage chooses on the map that enters it, before its own stride; its importances look around a
    pixel evenly. ValueError for images that are too small.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    model.num_tokens((height, width, 3))
    rows, columns = (stage_axes(model, pixels(n)) for n in (height, width))
    return tuple(Cells(i, (height, width), rows[i], columns[i]) for i in model.filter_stages)


def pixels(number: int) -> Axis:
    """The axis of the image itself."""
    edges = np.arange(number + 1)
    return Axis(
        edges[:-1] + 0.5, edges.astype(np.float64), np.stack([edges[:-1], edges[1:]], axis=1)
    )


def even_cells(grid: tuple[int, int], image_size: tuple[int, int]) -> Cells:
    """Cells (h, w) that share an image of (height, width) evenly, as patches do; stage 0."""
    return placed_cells(even_places(grid), image_size)


def placed_cells(places: CellPlaces, image_size: tuple[int, int]) -> Cells:
    """Cells of patches that may overlap, on an image of (height, width); stage 0."""
    rows, columns = (_placed(*sides) for sides in zip(places, image_size, strict=True))
    return Cells(0, (image_size[0], image_size[1]), rows, columns)


def convolve(axis: Axis, kernel: int, stride: int, padding: int) -> Axis:
    """The axis after a convolution of odd kernel; a cell lies where the kernel's middle does."""
    reach = kernel // 2
    number = (len(axis) + 2 * padding - kernel) // stride + 1
    middle = stride * np.arange(number) + reach - padding
    # A cell stretches half a stride to both sides of its middle, along the edges before.
    edges = _along(axis.edges, stride * (np.arange(number + 1) - 0.5) + reach - padding + 0.5)
    first = axis.seen[np.maximum(middle - reach, 0), 0]
    end = axis.seen[np.minimum(middle + reach, len(axis) - 1), 1]
    return Axis(axis.centres[middle], edges, np.stack([first, end], axis=1))


def pool(axis: Axis, number: int) -> Axis:
    """The axis after adaptive average pooling to `number` cells.

    Windows are rounded outwards and may overlap: centres are those of the windows, edges those
    before rounding, which share the axis out evenly.
    """
    old, places = len(axis), np.arange(number)
    start, stop = places * old // number, -(-(places + 1) * old // number)
    total = np.concatenate([[0.0], np.cumsum(axis.centres)])
    centres = (total[stop] - total[start]) / (stop - start)
    edges = _along(axis.edges, np.arange(number + 1) * old / number)
    return Axis(centres, edges, np.stack([axis.seen[start, 0], axis.seen[stop - 1, 1]], axis=1))


def _placed(cells: CellAxis, side: int) -> Axis:
    edges = cells.edges(side)
    seen = np.stack([np.floor(edges[:-1]), np.ceil(edges[1:])], axis=1).astype(np.int64)
    middles = (np.arange(cells.number) + cells.first) * (side / cells.span)
    return Axis(middles, edges, seen)


def stage_axes(model: Any, axis: Axis) -> list[Axis]:
    """What enters each stage, along one side of the image; last, what leaves the last one."""
    axis = convolve(axis, STEM_KERNEL, model.stem_stride, 0)
    axis = convolve(axis, DEPTHWISE_KERNEL, 1, 1)
    if model.stem_grid:
        axis = pool(axis, model.stem_grid)
    entering = []
    for stage in model.stages:
        entering.append(axis)
        # Attention, pooled or not, adds to the map in its own places.
        if stage.kind == "full" and stage.reduce != 1:
            axis = convolve(convolve(axis, DEPTHWISE_KERNEL, 1, 1), DEPTHWISE_KERNEL, 1, 1)
        axis = convolve(axis, DEPTHWISE_KERNEL, stage.stride, 1)
    return [*entering, axis]


def _along(edges: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Positions at fractional indices of `edges`; outside, steps go on as at the border."""
    last = len(edges) - 1
    before = np.minimum(where, 0) * (edges[1] - edges[0])
    after = np.maximum(where - last, 0) * (edges[-1] - edges[-2])
    return np.interp(where, np.arange(last + 1), edges) + before + after
