"""Outlines of objects, polygons or COCO's run lengths, made bitmaps in the frame of a box.

Masks are pycocotools' own, as published figures are made with: pip install "vit_jax_xfer[coco]".
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vit_jax_xfer.data.objects import Outline


def mask_functions() -> Any:
    """pycocotools.mask. ValueError, with what to install, where it isn't there."""
    try:
        from pycocotools import mask
    except ImportError:
        raise ValueError(
            'masks of objects need pycocotools: pip install "vit_jax_xfer[coco]"'
        ) from None
    return mask


def run_lengths(outline: Outline, size: Sequence[int]) -> dict[str, Any]:
    """COCO's compressed run lengths of an outline on an image of `size` (height, width)."""
    functions = mask_functions()
    height, width = size
    if isinstance(outline, dict):
        packed = isinstance(outline["counts"], str | bytes)
        return outline if packed else functions.frPyObjects(outline, height, width)
    rings = [ring.ravel().tolist() for ring in outline or ()]
    if not rings:
        return functions.encode(np.zeros((height, width), np.uint8, order="F"))
    return functions.merge(functions.frPyObjects(rings, height, width))


def bitmap(outline: Outline, size: Sequence[int]) -> np.ndarray:
    """An outline as (height, width) uint8, 1 inside."""
    return mask_functions().decode(run_lengths(outline, size))


def in_box(outline: Outline, box: np.ndarray, side: int, size: Sequence[int]) -> np.ndarray:
    """What an outline has of a box, as (side, side) uint8 that share the box evenly.

    box: xyxy in the outline's pixels, inside the image of `size`. Polygons are drawn on the box's
    own grid (as Mask R-CNN's authors do); run lengths are averaged over each cell, 1 from half on.
    """
    if isinstance(outline, dict):
        from PIL import Image

        whole = Image.fromarray(bitmap(outline, size) * 255)
        cells = whole.resize((side, side), Image.Resampling.BOX, tuple(box))
        return (np.asarray(cells) > 127).astype(np.uint8)
    sides = np.maximum(box[2:] - box[:2], 1e-9)
    # Of what lies far outside of a small box pycocotools would draw each pixel on its grid.
    near = np.concatenate([box[:2] - sides, box[2:] + sides])
    rings = [cut_ring(ring, near) if _leaves(ring, near) else ring for ring in outline or ()]
    scaled = tuple((ring - box[:2]) * (side / sides) for ring in rings if len(ring) >= 3)
    return bitmap(scaled, (side, side))


def bounds_in(outline: Outline, window: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The box (4,) xyxy of what an outline has in a window xyxy; without area for nothing.

    window: in the outline's pixels.
    """
    if isinstance(outline, dict):
        return _bounds_of_bitmap(bitmap(outline, size), window)
    rings = [cut_ring(ring, window) for ring in outline or ()]
    corners = np.concatenate([ring for ring in rings if len(ring)] or [np.zeros((1, 2))])
    return np.concatenate([corners.min(0), corners.max(0)])


def cut_ring(ring: np.ndarray, window: np.ndarray) -> np.ndarray:
    """A polygon (n, 2) cut at a window's four edges, (k, 2), k = 0 where nothing is inside.

    Sutherland and Hodgman's algorithm: parts are joined along the edges, which no bounds see.
    """
    for axis, edge, sign in ((0, 0, 1), (1, 1, 1), (0, 2, -1), (1, 3, -1)):
        if not len(ring):
            return ring
        inside = sign * (ring[:, axis] - window[edge])
        before, ring_before = np.roll(inside, 1), np.roll(ring, 1, axis=0)
        corners = []
        for at, last, point, previous in zip(inside, before, ring, ring_before, strict=True):
            if (at >= 0) != (last >= 0):
                corners.append(previous + (point - previous) * (last / (last - at)))
            if at >= 0:
                corners.append(point)
        ring = np.array(corners).reshape(-1, 2)
    return ring


def _leaves(ring: np.ndarray, window: np.ndarray) -> bool:
    return bool(((ring < window[:2]) | (ring > window[2:])).any())


def _bounds_of_bitmap(mask: np.ndarray, window: np.ndarray) -> np.ndarray:
    """xyxy of the pixels set in a window, whose edges may cut pixels."""
    left, top = np.floor(window[:2]).astype(int)
    right, bottom = np.ceil(window[2:]).astype(int)
    rows, columns = np.nonzero(mask[top:bottom, left:right])
    if not len(rows):
        return np.zeros(4)
    found = [columns.min() + left, rows.min() + top, columns.max() + left + 1, rows.max() + top + 1]
    return np.concatenate([np.maximum(found[:2], window[:2]), np.minimum(found[2:], window[2:])])
