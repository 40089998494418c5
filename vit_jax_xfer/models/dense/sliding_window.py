"""A large image through a network in windows of one size, their logits averaged where they meet."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def window_starts(length: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side: every `stride`, the last one shifted to end with it.

    One, at 0, where the side is no longer than the window. ValueError unless 1 ≤ stride ≤ window:
    a longer stride would leave pixels out.
    """
    if not 1 <= stride <= window:
        raise ValueError(f"stride: got {stride}, expected from 1 to the window's side, {window}")
    number = max(0, -(-(length - window) // stride)) + 1
    return [max(0, min(i * stride, length - window)) for i in range(number)]


def sliding_logits(
    model: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    window: tuple[int, int],
    stride: tuple[int, int],
    batch: int = 0,
) -> jax.Array:
    """Logits (B, H, W, K) float32 of images (B, H, W, C), as mmsegmentation slides.

    model: (b, *window, C) → logits (b, *window, K) at the windows' own size. Of images smaller
    than the window that side is padded with zeros, and the padding's logits are left out. batch: so
    many windows go through together, 0 = all images' one window after the other.
    """
    count, height, width = images.shape[:3]
    padding = [(0, max(0, side - n)) for side, n in zip(window, (height, width), strict=True)]
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    sides = zip(padded.shape[1:3], window, stride, strict=True)
    rows, columns = (window_starts(*side) for side in sides)
    places = np.asarray([(0, row, column) for row in rows for column in columns], np.int32)
    places = np.concatenate([places + [i, 0, 0] for i in range(count)])
    size = min(batch or count, len(places))
    # Whole batches: windows that fill the last one up are cut out, and not added.
    fill = -len(places) % size
    real = np.concatenate([np.ones(len(places)), np.zeros(fill)]).astype(np.float32)
    places = np.concatenate([places, places[:1].repeat(fill, 0)]).reshape(-1, size, 3)

    def cut(place: jax.Array) -> jax.Array:
        shape = (1, *window, padded.shape[3])
        return jax.lax.dynamic_slice(padded, (*place, 0), shape)[0]

    def step(total: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        some, weights = inputs
        logits = model(jax.vmap(cut)(some)).astype(jnp.float32)
        for place, weight, one in zip(some, weights, logits, strict=True):
            start = (*place, 0)
            old = jax.lax.dynamic_slice(total, start, (1, *one.shape))
            total = jax.lax.dynamic_update_slice(total, old + weight * one[None], start)
        return total, None

    shape = jax.ShapeDtypeStruct((size, *window, padded.shape[3]), padded.dtype)
    classes = jax.eval_shape(model, shape).shape[-1]
    zeros = jnp.zeros((*padded.shape[:3], classes), jnp.float32)
    weights = jnp.asarray(real.reshape(-1, size))
    total, _ = jax.lax.scan(step, zeros, (jnp.asarray(places), weights))
    counts = np.zeros(padded.shape[1:3], np.float32)
    for row in rows:
        for column in columns:
            counts[row : row + window[0], column : column + window[1]] += 1
    return (total / counts[..., None])[:, :height, :width]
