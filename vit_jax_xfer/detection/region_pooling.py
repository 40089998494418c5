"""ROIAlign (1703.06870): the features of a box, from one map or from the level of its size.

A box's samples are gathered from all maps laid end to end, so that only its own level is read. The
border is the compiled kernel's of detectron2 and torchvision: 0 beyond a pixel outside the map,
the border's value up to there.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.listed_values import listed
from vit_jax_xfer.arguments.whole_numbers import check_each_whole, check_number
from vit_jax_xfer.detection.box_overlap import area, as_boxes
from vit_jax_xfer.detection.compiled import compiled

# A box of this many pixels a side belongs to the level of stride 16 (1612.03144).
CANONICAL_SIZE = 224
CANONICAL_STRIDE = 16


@compiled("size", "scale", "sampling_ratio", "aligned")
def roi_align(
    features: ArrayLike,
    boxes: ArrayLike,
    size: int,
    scale: float,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> jax.Array:
    """The features (h, w, C) under boxes (N, 4), pixels: (N, size, size, C), of features' type.

    scale: cells a pixel. sampling_ratio: samples each way in a bin, whose mean it is. aligned:
    cells' middles lie half a cell in; False is the older rule, with boxes of a cell at least. A
    box that is not finite has zeros. Boxes get no gradient.
    """
    features = given_array("features", features)
    if features.ndim != 3:
        raise ValueError(f"features: expected (h, w, C), got {tuple(features.shape)}")
    boxes = as_boxes("boxes", boxes)
    check_number("scale", scale)
    return _pool([features], [scale], boxes, None, size, sampling_ratio, aligned)


@compiled("size", "strides", "sampling_ratio")
def roi_align_levels(
    levels: Sequence[ArrayLike],
    boxes: ArrayLike,
    size: int,
    strides: tuple[float, ...],
    sampling_ratio: int = 2,
) -> jax.Array:
    """`roi_align` of each box from the level of its size (see `roi_levels`).

    levels: maps (h, w, C), fine to coarse. boxes: (N, 4). strides: pixels a cell of each level.
    """
    boxes = as_boxes("boxes", boxes)
    which = roi_levels(boxes, strides)
    scales = [1 / stride for stride in strides]
    return _pool(levels, scales, boxes, which, size, sampling_ratio, True)


def roi_levels(boxes: ArrayLike, strides: Sequence[float] = (4, 8, 16, 32)) -> jax.Array:
    """The level of each box (…, 4) by its size: (…,) int32, 0 = the first of `strides`.

    A box of 224 pixels a side goes to stride 16 and each doubling one level on, as the rule
    ⌊4 + log₂(√area / 224)⌋ of 1612.03144, written without a logarithm, which rounds at its steps.
    """
    strides = listed("strides", strides)
    edges = [CANONICAL_SIZE * stride / CANONICAL_STRIDE for stride in strides[1:]]
    steps = [area(boxes) >= edge * edge for edge in edges]
    zero = jnp.zeros(jnp.shape(boxes)[:-1], jnp.int32)
    return sum((step.astype(jnp.int32) for step in steps), zero)


def _pool(
    levels: Sequence[jax.Array],
    scales: Sequence[float],
    boxes: jax.Array,
    which: jax.Array | None,
    size: int,
    sampling_ratio: int,
    aligned: bool,
) -> jax.Array:
    # Samples are a fixed number, so that shapes are static.
    check_each_whole(1, size=size, sampling_ratio=sampling_ratio)
    boxes = jax.lax.stop_gradient(boxes)
    channels = levels[0].shape[-1]
    flat = jnp.concatenate([level.reshape(-1, channels) for level in levels])
    ends = [0]
    for level in levels:
        ends.append(ends[-1] + level.shape[0] * level.shape[1])
    which = jnp.zeros(len(boxes), jnp.int32) if which is None else which
    height, width = (jnp.asarray([x.shape[i] for x in levels])[which] for i in (0, 1))
    start = jnp.asarray(ends[:-1])[which]
    scaled = boxes * jnp.asarray(scales, jnp.float32)[which][:, None] - (0.5 if aligned else 0.0)
    sides = scaled[:, 2:] - scaled[:, :2]
    if not aligned:
        sides = jnp.maximum(sides, 1.0)
    rows = _taps(scaled[:, 1], sides[:, 1], height, size, sampling_ratio)
    columns = _taps(scaled[:, 0], sides[:, 0], width, size, sampling_ratio)

    def add(total: jax.Array, row: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        cell, row_weight = row
        first = start[:, None] + cell * width[:, None]
        index = first[:, :, None] + columns[0][:, :, None]  # taps, N, size, size
        weight = row_weight[:, :, None] * columns[1][:, :, None]
        return total + (flat[index] * weight[..., None]).sum(0), None

    # The mean of bilinear samples on a grid is a product of a row's taps and a column's: rows one
    # after the other, so that no array holds all taps.
    shape = (len(boxes), size, size, channels)
    wide = jnp.promote_types(jnp.float32, flat.dtype)
    return jax.lax.scan(add, jnp.zeros(shape, wide), rows)[0].astype(flat.dtype)


def _taps(
    start: jax.Array, side: jax.Array, cells: jax.Array, size: int, sampling_ratio: int
) -> tuple[jax.Array, jax.Array]:
    """The cells that bins read along one axis, and their weights: (taps, N, size) each.

    start, side: of the boxes, in cells. cells: how many the map has.
    """
    last = (cells - 1)[:, None]
    step = (jnp.arange(sampling_ratio) + 0.5) / sampling_ratio
    steps = jnp.arange(size) + step[:, None, None]
    place = start[:, None] + steps * (side / size)[:, None]
    inside = (place >= -1) & (place <= last + 1)  # False for NaN
    place = jnp.where(inside, jnp.clip(place, 0, last), 0.0)
    low = jnp.minimum(place.astype(jnp.int32), last)
    share = place - low
    cell = jnp.concatenate([low, jnp.minimum(low + 1, last)])
    weight = jnp.concatenate([1 - share, share]) / sampling_ratio
    return cell, jnp.where(jnp.concatenate([inside, inside]), weight, 0.0)
