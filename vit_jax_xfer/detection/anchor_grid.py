"""Anchors: boxes of given sizes and shapes at every cell of every level."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.arguments.listed_values import listed
from vit_jax_xfer.arguments.whole_numbers import check_number, is_whole


def anchors(
    grids: Sequence[tuple[int, int]],
    strides: Sequence[float],
    sizes: Sequence[float],
    ratios: Sequence[float],
) -> list[jax.Array]:
    """Anchors of each level, (h · w · ratios, 4) float32 in pixels, in the order y, x, ratio.

    grids: cells (h, w) a level. strides: pixels a cell. sizes: the side of a square anchor. ratios:
    height / width, at equal area. An anchor's centre is its cell's top left corner (detectron2).
    ValueError where levels differ in number, or a number is not above 0.
    """
    grids = [listed("grids", grid) for grid in listed("grids", grids)]
    if not all(len(grid) == 2 and is_whole(grid[0]) and is_whole(grid[1]) for grid in grids):
        raise ValueError(f"grids: expected cells (h, w) of each level, got {grids}")
    strides, sizes = listed("strides", strides), listed("sizes", sizes)
    ratios = listed("ratios", ratios)
    for name, values in (("strides", strides), ("sizes", sizes)):
        if len(values) != len(grids):
            raise ValueError(f"{name}: got {len(values)} for {len(grids)} levels; one each")
    for name, values in (("strides", strides), ("sizes", sizes), ("ratios", ratios)):
        for value in values:
            check_number(name, value)
        if not all(value > 0 for value in values):
            raise ValueError(f"{name}: expected numbers above 0, got {tuple(values)}")
    levels = zip(grids, strides, sizes, strict=True)
    return [jnp.asarray(_level(*level, ratios), jnp.float32) for level in levels]


def _level(
    grid: tuple[int, int], stride: float, size: float, ratios: Sequence[float]
) -> np.ndarray:
    roots = np.sqrt(np.asarray(ratios, np.float64))
    half = size * np.stack([1 / roots, roots], axis=-1) / 2  # (ratios, 2) x, y
    rows, columns = np.meshgrid(*(np.arange(n) * stride for n in grid), indexing="ij")
    centres = np.stack([columns, rows], axis=-1)[:, :, None]
    return np.concatenate([centres - half, centres + half], axis=-1).reshape(-1, 4)


def cell_centres(grids: Sequence[tuple[int, int]], strides: Sequence[float]) -> jax.Array:
    """The middle of every cell of all levels, x and y in pixels: (Σ h · w, 2) float32."""
    levels = []
    for (height, width), stride in zip(grids, strides, strict=True):
        rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        levels.append((np.stack([columns, rows], axis=-1).reshape(-1, 2) + 0.5) * stride)
    return jnp.asarray(np.concatenate(levels), jnp.float32)
