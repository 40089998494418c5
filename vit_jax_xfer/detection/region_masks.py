"""Masks of objects in the frame of a box: targets for a head, and back onto a photograph."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.detection.box_codec import SMALLEST_SIDE
from vit_jax_xfer.detection.box_overlap import as_boxes
from vit_jax_xfer.detection.compiled import compiled


@compiled("size")
def mask_targets(
    masks: ArrayLike, boxes: ArrayLike, regions: ArrayLike, size: int = 28
) -> jax.Array:
    """Which cells of a region its object covers: (N, size, size) bool.

    masks: (N, m, m) the object's mask in the frame of its own box, 0 or 1. boxes: (N, 4) that
    frame. regions: (N, 4) where it is wanted. A cell is covered where the bilinear value at its
    middle is above 1/2; outside the object's box it is not.
    """
    check_whole("size", size)
    boxes, regions = as_boxes("boxes", boxes), as_boxes("regions", regions)
    masks = given_array("masks", masks).astype(jnp.float32)
    columns, rows = (_weights(boxes, regions, axis, masks.shape[-1], size) for axis in (0, 1))
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("npi,nij,nqj->npq", rows, masks, columns, precision=exact) > 0.5


def _weights(boxes: jax.Array, regions: jax.Array, axis: int, cells: int, size: int) -> jax.Array:
    """Of each mask's cells along one axis for the region's cells: (N, size, cells)."""
    start, end = regions[:, axis, None], regions[:, axis + 2, None]
    place = start + (jnp.arange(size) + 0.5) / size * (end - start)
    side = jnp.maximum(boxes[:, axis + 2] - boxes[:, axis], SMALLEST_SIDE)[:, None]
    place = (place - boxes[:, axis, None]) / side * cells
    inside = (place >= 0) & (place <= cells)
    place = jnp.clip(place - 0.5, 0, cells - 1)
    near = jnp.maximum(1 - jnp.abs(place[..., None] - jnp.arange(cells)), 0.0)
    return jnp.where(inside[..., None], near, 0.0)


def paste_masks(
    masks: np.ndarray, boxes: np.ndarray, height: int, width: int, threshold: float = 0.5
) -> np.ndarray:
    """Masks (N, m, m) of probabilities put where their boxes (N, 4) lie: (N, height, width) bool.

    On the host. A pixel's value is bilinear at its middle, 0 outside the mask, as in detectron2;
    True from `threshold` on. A box that is not finite, or has no area, has an empty mask.
    """
    masks, boxes = np.asarray(masks, np.float32), np.asarray(boxes, np.float32)
    if masks.ndim != 3 or boxes.shape != (len(masks), 4):
        raise ValueError(
            f"masks: expected (N, m, m) and boxes (N, 4), got {masks.shape}, {boxes.shape}"
        )
    found = np.zeros((len(masks), height, width), bool)
    for out, mask, box in zip(found, masks, boxes, strict=True):
        if not np.isfinite(box).all() or not (box[2:] > box[:2]).all():
            continue
        left, top = np.clip(np.floor(box[:2]) - 1, 0, (width, height)).astype(int)
        right, bottom = np.clip(np.ceil(box[2:]) + 1, 0, (width, height)).astype(int)
        rows = _host_weights(np.arange(top, bottom), box[1], box[3], mask.shape[0])
        columns = _host_weights(np.arange(left, right), box[0], box[2], mask.shape[1])
        out[top:bottom, left:right] = rows @ mask @ columns.T >= threshold
    return found


def _host_weights(pixels: np.ndarray, start: float, end: float, cells: int) -> np.ndarray:
    """Weights (pixels, cells) of a bilinear sample at pixels' middles, 0 outside the cells."""
    place = (pixels + 0.5 - start) / (end - start) * cells - 0.5
    return np.maximum(1 - np.abs(place[:, None] - np.arange(cells)), 0.0).astype(np.float32)
