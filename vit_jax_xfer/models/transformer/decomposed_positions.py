"""Decomposed relative positions: a vector for each offset down, and one for each across.

Source: MViTv2 (2112.01526), as ViTDet (2203.16527) has them. A score is scale · q·k and, of the
unscaled query, q·D[offset down] + q·A[offset across]. Here it is one inner product: of q with its
products with the vectors of all rows and columns beside it, and of k with ones at its own row and
column. So every kernel, and every loss on queries and keys, knows nothing of it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.transformer.relative_positions import linear_weights

Grid = tuple[int, int]
_EVEN = 8  # fused kernels take head sizes that this divides


def with_offsets(
    q: jax.Array, k: jax.Array, down: jax.Array, across: jax.Array, grid: Grid
) -> tuple[jax.Array, jax.Array]:
    """Queries and keys (B, h·w, H, d) → (B, h·w, H, D), whose products / √D are the scores.

    down, across: tables (2n − 1, d), the offset of a query from a key from −(n − 1) on, resized to
    the grid (h, w) where n is another. D is d + h + w, up to the next multiple of 8.
    """
    batch, tokens, heads, width = q.shape
    wide = width + sum(grid)
    wide += -wide % _EVEN
    cells = q.reshape(batch, *grid, heads, width)
    rows, columns = (
        offset_vectors(table, n).astype(q.dtype)
        for table, n in zip((down, across), grid, strict=True)
    )
    by_row = jnp.einsum("byxhd,ykd->byxhk", cells, rows)
    by_column = jnp.einsum("byxhd,xkd->byxhk", cells, columns)
    # Kernels divide by √D what here was to be divided by √d, or by nothing.
    parts = [cells * (wide / width) ** 0.5, by_row * wide**0.5, by_column * wide**0.5]
    queries = jnp.concatenate(parts, axis=-1).reshape(batch, tokens, heads, -1)
    places = _places(grid).astype(q.dtype)[None, :, None]
    places = jnp.broadcast_to(places, (batch, tokens, heads, places.shape[-1]))
    keys = jnp.concatenate([k, places], axis=-1)
    beyond = ((0, 0),) * 3 + ((0, wide - queries.shape[-1]),)
    return jnp.pad(queries, beyond), jnp.pad(keys, beyond)


def offset_vectors(table: jax.Array, n: int) -> jax.Array:
    """The vector of each pair of rows, query first: a table (2m − 1, d) → (n, n, d)."""
    places = np.arange(n)
    return fit_offsets(table, n)[places[:, None] - places + n - 1]


def fit_offsets(table: jax.Array, n: int) -> jax.Array:
    """The table of n rows, (2n − 1, d), by linear interpolation as its publishers do it."""
    if len(table) == 2 * n - 1:
        return table
    weights = linear_weights(len(table), 2 * n - 1)
    return jnp.tensordot(weights, table, axes=1, precision=jax.lax.Precision.HIGHEST)


def _places(grid: Grid) -> jax.Array:
    """(h·w, h + w): ones at each cell's row and column."""
    rows, columns = (axis.reshape(-1) for axis in np.indices(grid))
    return jnp.asarray(np.concatenate([np.eye(grid[0])[rows], np.eye(grid[1])[columns]], axis=1))
