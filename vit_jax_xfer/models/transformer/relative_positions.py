"""Relative position bias: a learned number a head for every offset between two patches.

Source: BEiT (2106.08254), after Swin (2103.14030). The table (offsets + 3, H) has a row for each
offset (down, across) of a query's cell from a key's, row by row; its last three rows are for
prefix → patch, patch → prefix and prefix → prefix.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.transformer.positions import product

OTHERS = 3  # rows of the table that are no offsets


def table_rows(grid: tuple[int, int]) -> int:
    """How many rows the table of a grid (h, w) has."""
    h, w = grid
    return (2 * h - 1) * (2 * w - 1) + OTHERS


def gather_bias(
    table: jax.Array,
    grid: tuple[int, int],
    prefix_tokens: int,
    cells: tuple[int, int] | None = None,
) -> jax.Array:
    """The bias (H, T, T) of every pair of tokens, query first, from a table for this grid.

    cells: rows and columns of the tokens, None = the grid's; those of a window have its offsets,
    and offsets beyond the grid are the last ones inside.
    """
    return jnp.moveaxis(table[_index(grid, prefix_tokens, cells)], -1, 0)


def resize_table(
    table: jax.Array | np.ndarray, old_grid: tuple[int, int], new_grid: tuple[int, int], how: str
) -> jax.Array | np.ndarray:
    """The table of another grid: (rows, H) float32; the three rows that are no offsets stay.

    A numpy table gives a numpy one.

    how: "geometric", cubic splines through samples whose spacing grows away from offset 0, so that
    near offsets keep their resolution (BEiT's fine-tuning code); "bilinear" (transformers).
    """
    xp = np if isinstance(table, np.ndarray) else jnp
    table = xp.asarray(table, xp.float32)
    if old_grid == new_grid:
        return table
    sides = [(2 * old - 1, 2 * new - 1) for old, new in zip(old_grid, new_grid, strict=True)]
    weights = _geometric if how == "geometric" else linear_weights
    down, across = (weights(old, new) for old, new in sides)
    offsets = table[:-OTHERS].reshape(sides[0][0], sides[1][0], -1)
    resized = product("iy,jx,yxh->ijh", down, across, offsets)
    return xp.concatenate([resized.reshape(-1, table.shape[1]), table[-OTHERS:]])


@functools.cache
def _index(
    grid: tuple[int, int], prefix_tokens: int, cells: tuple[int, int] | None = None
) -> np.ndarray:
    """The row of the table for every pair of tokens, (T, T)."""
    h, w = grid
    cells = cells or grid
    rows, columns = (axis.reshape(-1) for axis in np.indices(cells))
    down = np.clip(rows[:, None] - rows[None] + h - 1, 0, 2 * h - 2)
    across = np.clip(columns[:, None] - columns[None] + w - 1, 0, 2 * w - 2)
    number = table_rows(grid)
    index = np.full((prefix_tokens + cells[0] * cells[1],) * 2, number - 1)
    index[prefix_tokens:, prefix_tokens:] = down * (2 * w - 1) + across
    index[:prefix_tokens, prefix_tokens:] = number - 3
    index[prefix_tokens:, :prefix_tokens] = number - 2
    return index


def linear_weights(old: int, new: int) -> np.ndarray:
    """Weights (new, old) of linear interpolation with half-cell centres, clamped at the ends."""
    centres = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    cells = np.arange(old)
    return np.maximum(0, 1 - np.abs(centres[:, None] - cells)).astype(np.float32)


def _geometric(old: int, new: int) -> np.ndarray:
    """Weights (new, old) of a cubic spline through samples at geometrically growing distances.

    The ratio of the progression is the one with which `old` samples just span `new` cells.
    """
    from scipy.interpolate import make_interp_spline

    if old == new:
        return np.eye(old, dtype=np.float32)
    half = old // 2
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if (1 - ratio**half) / (1 - ratio) > new // 2:
            high = ratio
        else:
            low = ratio
    distances = np.cumsum(((low + high) / 2) ** np.arange(half))
    samples = np.concatenate([-distances[::-1], [0], distances])
    # Beyond the last sample, which the ratio's bound allows on small grids, its value holds.
    cells = np.clip(np.arange(new) - new // 2, samples[0], samples[-1])
    spline = make_interp_spline(samples, np.eye(old), k=min(3, old - 1))
    return spline(cells).astype(np.float32)
