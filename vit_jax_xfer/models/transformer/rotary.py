"""Axial rotary positions (2104.09864): queries and keys turned by angles of their row and column.

Prefix tokens are not turned. Two families, whose angles and whose pairs of channels differ:

| kind     | coordinate of a cell                     | channels turned together | source      |
|----------|------------------------------------------|--------------------------|-------------|
| `dinov3` | its centre, −1 … 1 on each side          | i and i + d/2            | 2508.10104  |
| `eva02`  | its number, scaled to a reference grid   | 2i and 2i + 1            | 2303.11331  |
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class Rotation:
    """Cosines and sines (T, d) float32, and which channels they turn together."""

    cos: jax.Array
    sin: jax.Array
    interleaved: bool = flax.struct.field(pytree_node=False)


def make_rotation(
    kind: str,
    grid: tuple[int, int],
    reference: tuple[int, int],
    head_dim: int,
    base: float,
    prefix_tokens: int,
    cells: tuple[int, int] | None = None,
) -> Rotation:
    """The rotation of a grid's tokens, prefix tokens first. ValueError unless 4 divides head_dim.

    reference: the grid on which `eva02` counts cells; a larger grid gets fractions of cells.
    cells: rows and columns of the tokens, None = the grid's; a window's differ as the grid's do.
    """
    angles = rotary_angles(kind, grid, reference, head_dim, base, cells)
    angles = np.concatenate([np.zeros((prefix_tokens, head_dim)), angles])
    cos, sin = (jnp.asarray(f(angles), jnp.float32) for f in (np.cos, np.sin))
    return Rotation(cos, sin, kind == "eva02")


def rotary_angles(
    kind: str,
    grid: tuple[int, int],
    reference: tuple[int, int],
    head_dim: int,
    base: float,
    cells: tuple[int, int] | None = None,
) -> np.ndarray:
    """By how much each channel of a grid's cells is turned, (h·w, d); arguments as above."""
    if head_dim % 4:
        raise ValueError(f"rotary: needs heads of a multiple of 4 channels, these have {head_dim}")
    cells = cells or grid
    frequencies = base ** -(np.arange(head_dim // 4) / (head_dim // 4))
    if kind == "dinov3":
        axes = [2 * (np.arange(m) + 0.5) / n - 1 for m, n in zip(cells, grid, strict=True)]
        frequencies = 2 * np.pi * frequencies
    else:
        sides = zip(cells, grid, reference, strict=True)
        axes = [np.arange(m) / n * r for m, n, r in sides]
    rows, columns = np.meshgrid(*axes, indexing="ij")
    angles = np.concatenate(
        [position.reshape(-1, 1) * frequencies for position in (rows, columns)], axis=1
    )
    return np.repeat(angles, 2, axis=1) if kind == "eva02" else np.tile(angles, 2)


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
    """Queries or keys (B, T, H, d), turned; computed in float32, returned in x's dtype."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    if rotation.interleaved:
        pairs = wide.reshape(*wide.shape[:-1], -1, 2)
        turned = jnp.stack([-pairs[..., 1], pairs[..., 0]], axis=-1).reshape(wide.shape)
    else:
        first, second = jnp.split(wide, 2, axis=-1)
        turned = jnp.concatenate([-second, first], axis=-1)
    cos, sin = rotation.cos[:, None], rotation.sin[:, None]
    return (wide * cos + turned * sin).astype(x.dtype)
