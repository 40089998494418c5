"""Windows of a grid of tokens: attention within each instead of among all (ViTDet, 2203.16527)."""

import jax
import jax.numpy as jnp

Grid = tuple[int, int]


def to_windows(tokens: jax.Array, grid: Grid, size: int) -> jax.Array:
    """Tokens (B, h·w, C) of a grid → (B · windows, size², C), windows row by row, their cells too.

    Where windows reach beyond the grid, zeros stand there.
    """
    batch, channels = tokens.shape[0], tokens.shape[-1]
    down, across = windows_in(grid, size)
    padding = (down * size - grid[0], across * size - grid[1])
    x = tokens.reshape(batch, *grid, channels)
    x = jnp.pad(x, ((0, 0), (0, padding[0]), (0, padding[1]), (0, 0)))
    x = x.reshape(batch, down, size, across, size, channels).swapaxes(2, 3)
    return x.reshape(batch * down * across, size * size, channels)


def from_windows(windows: jax.Array, grid: Grid, size: int) -> jax.Array:
    """The inverse: (B · windows, size², C) → (B, h·w, C), without what is beyond the grid."""
    channels = windows.shape[-1]
    down, across = windows_in(grid, size)
    x = windows.reshape(-1, down, across, size, size, channels).swapaxes(2, 3)
    x = x.reshape(-1, down * size, across * size, channels)[:, : grid[0], : grid[1]]
    return x.reshape(-1, grid[0] * grid[1], channels)


def map_from_windows(maps: jax.Array, grid: Grid, size: int) -> jax.Array:
    """Maps within windows (B · windows, H, size², size²) → of all tokens (B, H, h·w, h·w).

    0 for pairs that don't meet. What a token looks at beyond the grid is left out, so that its row
    may sum to less than 1.
    """
    tokens = grid[0] * grid[1]
    # The token of each window's each cell, counted from 1; 0 = beyond the grid.
    token = to_windows(jnp.arange(1, tokens + 1)[None, :, None], grid, size)[..., 0]
    number, cells = token.shape
    maps = maps.reshape(-1, number, maps.shape[1], cells, cells).swapaxes(1, 2)
    whole = jnp.zeros((*maps.shape[:2], tokens + 1, tokens + 1), maps.dtype)
    return whole.at[:, :, token[:, :, None], token[:, None, :]].set(maps)[:, :, 1:, 1:]


def windows_in(grid: Grid, size: int) -> Grid:
    """How many windows (down, across) cover a grid."""
    return -(-grid[0] // size), -(-grid[1] // size)
