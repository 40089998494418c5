"""Other ways to attend on a map, in place of attention among chosen pixels.

Each takes all pixels as tokens (B, h·w, C) and gives as many back, at a cost that grows linearly
with their number, but for "all".

| `attend`     | who attends to whom                             | source                      |
|--------------|-------------------------------------------------|-----------------------------|
| `window`     | pixels of one 7×7 window among each other       | Swin, 2103.14030            |
| `lsh`        | 64 pixels next to each other, sorted by a hash  | Reformer, 2001.04451        |
| `low_rank`   | every pixel to 64 pooled keys and values        | Linformer, 2006.04768       |
| `deformable` | every pixel to 4 points a head that it places   | Deformable DETR, 2010.04159 |
| `all`        | every pixel to every pixel                      | 1706.03762                  |

Beside them a network takes `kept`, attention among the chosen pixels, and `none`: no block of it
attends, and its convolutions are left.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.filter.convolution import adaptive_pool
from vit_jax_xfer.models.filter.encoder import EncoderLayer
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL

PATTERNS: tuple[str, ...] = ("window", "lsh", "low_rank", "deformable", "all")

WINDOW = 7  # side of a window
CHUNK = 64  # tokens of a hash bucket that attend to each other
POOLED = 8  # side of the grid of pooled keys
POINTS = 4  # that a query samples, a head


def run_pattern(
    attend: str,
    layer: EncoderLayer,
    tokens: jax.Array,
    grid: tuple[int, int],
    train: bool,
) -> jax.Array:
    """One encoder layer under a pattern: tokens (B, h·w, C) → same. `layer` is called in here."""
    if attend == "window":
        return _in_windows(layer, tokens, grid, train)
    if attend == "lsh":
        return _in_buckets(layer, tokens, train)
    if attend == "low_rank":
        side = tuple(min(POOLED, n) for n in grid)
        pooled = adaptive_pool(tokens.reshape(tokens.shape[0], *grid, -1), side)
        return layer(tokens, train, keys=pooled.reshape(tokens.shape[0], -1, tokens.shape[-1]))
    return layer(tokens, train)  # all, and deformable, whose layer attends by itself


def _in_windows(
    layer: EncoderLayer, tokens: jax.Array, grid: tuple[int, int], train: bool
) -> jax.Array:
    """Windows side by side; a map that they don't fill is padded with zeros, as Swin does."""
    (h, w), (batch, _, width) = grid, tokens.shape
    rows, columns = (-(-n // WINDOW) for n in grid)
    x = tokens.reshape(batch, h, w, width)
    x = jnp.pad(x, ((0, 0), (0, rows * WINDOW - h), (0, columns * WINDOW - w), (0, 0)))
    x = x.reshape(batch, rows, WINDOW, columns, WINDOW, width).swapaxes(2, 3)
    x = layer(x.reshape(-1, WINDOW * WINDOW, width), train)
    x = x.reshape(batch, rows, columns, WINDOW, WINDOW, width).swapaxes(2, 3)
    x = x.reshape(batch, rows * WINDOW, columns * WINDOW, width)
    return x[:, :h, :w].reshape(tokens.shape)


def _in_buckets(layer: EncoderLayer, tokens: jax.Array, train: bool) -> jax.Array:
    """Tokens sorted by the nearest of random directions; neighbours in that order attend."""
    batch, number, width = tokens.shape
    size, chunks = min(CHUNK, number), -(-number // CHUNK)
    directions = jax.random.normal(jax.random.key(0), (width, max(chunks // 2, 1)))
    projected = jax.lax.stop_gradient(tokens) @ directions.astype(tokens.dtype)
    bucket = jnp.concatenate([projected, -projected], axis=-1).argmax(axis=-1)
    order = jnp.argsort(bucket, axis=1, stable=True)
    # The last chunk reaches back where the tokens don't fill it, so that none is padding; what it
    # has in common with the chunk before is taken from there.
    starts = np.minimum(np.arange(chunks) * CHUNK, number - size)
    places = starts[:, None] + np.arange(size)
    x = jnp.take_along_axis(tokens, order[:, places.ravel(), None], axis=1)
    x = layer(x.reshape(batch * chunks, size, width), train).reshape(batch, -1, width)
    chunk = np.arange(number) // CHUNK
    x = x[:, chunk * size + np.arange(number) - starts[chunk]]
    return jnp.take_along_axis(x, jnp.argsort(order, axis=1)[..., None], axis=1)


class DeformableAttention(nn.Module):
    """Each query samples the values at points of its own choice: tokens (B, h·w, C) → same.

    The points start on a circle around the query, one direction a head, as published.
    """

    grid: tuple[int, int]
    num_heads: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        (h, w), (batch, number, width) = self.grid, tokens.shape
        shape = (batch, number, self.num_heads, POINTS)
        dense = {"kernel_init": TORCH_KERNEL, "dtype": self.dtype}
        values = nn.DenseGeneral((self.num_heads, width // self.num_heads), name="values", **dense)(
            tokens
        )
        offsets = nn.Dense(
            2 * self.num_heads * POINTS,
            kernel_init=nn.initializers.zeros,
            bias_init=self._circle,
            name="offsets",
        )(tokens).reshape(*shape, 2)
        weights = nn.Dense(
            self.num_heads * POINTS, kernel_init=nn.initializers.zeros, name="weights"
        )(tokens)
        weights = jax.nn.softmax(weights.reshape(shape).astype(jnp.float32), axis=-1)
        cells = jnp.stack(jnp.meshgrid(jnp.arange(h), jnp.arange(w), indexing="ij"), axis=-1)
        points = cells.reshape(1, number, 1, 1, 2) + offsets
        out = _sample(values.reshape(batch, h, w, self.num_heads, -1), points, weights)
        return nn.DenseGeneral(width, axis=(-2, -1), name="proj", **dense)(out.astype(self.dtype))

    def _circle(self, key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
        angles = jnp.arange(self.num_heads) * (2 * jnp.pi / self.num_heads)
        directions = jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1)
        steps = 1 + jnp.arange(POINTS, dtype=dtype)
        return (directions[:, None] * steps[None, :, None]).reshape(shape).astype(dtype)


def _sample(values: jax.Array, points: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted bilinear samples: values (B, h, w, H, d), points (B, N, H, P, 2) → (B, N, H, d).

    Points outside the map read zeros.
    """
    batch, h, w, heads, _ = values.shape
    flat = values.reshape(batch, h * w, heads, -1)
    corner = jnp.floor(points)
    part = points - corner
    total = 0.0
    for down in (0, 1):
        for across in (0, 1):
            row, column = corner[..., 0] + down, corner[..., 1] + across
            share = jnp.abs(1 - down - part[..., 0]) * jnp.abs(1 - across - part[..., 1])
            inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
            index = jnp.clip(row, 0, h - 1) * w + jnp.clip(column, 0, w - 1)
            taken = _take_points(flat, index.astype(jnp.int32))
            total = total + taken * (weights * share * inside)[..., None]
    return total.sum(axis=3)


def _take_points(flat: jax.Array, index: jax.Array) -> jax.Array:
    """flat (B, N, H, d) at index (B, M, H, P) → (B, M, H, P, d)."""
    batch, number, heads, points = index.shape
    by_head = jnp.moveaxis(flat, 2, 1)
    places = jnp.moveaxis(index, 2, 1).reshape(batch, heads, number * points, 1)
    taken = jnp.take_along_axis(by_head, places, axis=2)
    return jnp.moveaxis(taken.reshape(batch, heads, number, points, -1), 1, 2)
