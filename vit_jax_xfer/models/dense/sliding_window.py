"""A large image through a network in windows of one size, their logits averaged where they meet."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


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
    content: jax.Array | None = None,
) -> jax.Array:
    """Logits (B, H, W, K) float32 of images (B, H, W, C), as mmsegmentation slides.

    model: (b, *window, C) → logits (b, *window, K) at the windows' own size. Of images smaller
    than the window that side is padded with zeros, and the padding's logits are left out. batch: so
    many windows go through together, 0 = all images' one window after the other. content: (B, 2)
    heights and widths of what of each image is no border at the bottom and right; windows then end
    with it, as if there were no border, and where none was the logits are 0. None = all.
    """
    count, height, width = images.shape[:3]
    if content is None:
        content = jnp.tile(jnp.array([height, width]), (count, 1))
    ends = jnp.round(content).astype(jnp.int32)
    padding = [(0, max(0, side - n)) for side, n in zip(window, (height, width), strict=True)]
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    sides = zip(padded.shape[1:3], window, stride, ends.T, strict=True)
    places, weights = _all_windows(*(_along(*side) for side in sides))
    size = min(batch or count, len(places))
    # Whole batches: windows that fill the last one up are cut out, and not added.
    fill = -len(places) % size
    places = jnp.concatenate([places, places[:1].repeat(fill, 0)]).reshape(-1, size, 3)
    weights = jnp.pad(weights, (0, fill)).reshape(-1, size)

    def cut(place: jax.Array) -> jax.Array:
        shape = (1, *window, padded.shape[3])
        return jax.lax.dynamic_slice(padded, (*place, 0), shape)[0]

    def step(totals: list[jax.Array], inputs: tuple[jax.Array, jax.Array]) -> tuple:
        some, shares = inputs
        logits = model(jax.vmap(cut)(some)).astype(jnp.float32)
        ones = jnp.ones((*window, 1), jnp.float32)
        for place, share, one in zip(some, shares, logits, strict=True):
            totals = [_added(x, place, share * y) for x, y in zip(totals, (one, ones), strict=True)]
        return totals, None

    shape = jax.ShapeDtypeStruct((size, *window, padded.shape[3]), padded.dtype)
    classes = jax.eval_shape(model, shape).shape[-1]
    zeros = [jnp.zeros((*padded.shape[:3], n), jnp.float32) for n in (classes, 1)]
    (total, times), _ = jax.lax.scan(step, zeros, (places, weights))
    return (total / jnp.maximum(times, 1.0))[:, :height, :width]


def _along(length: int, window: int, stride: int, ends: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Where the windows of each image begin along a side, (B, n) int32, and which there are.

    n: as many as the longest image has. ends: (B,), where each one's content ends.
    """
    starts = jnp.arange(len(window_starts(length, window, stride))) * stride
    last = jnp.maximum(ends - window, 0)[:, None]
    return jnp.minimum(starts, last), starts < last + stride


def _all_windows(
    rows: tuple[jax.Array, jax.Array], columns: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """(image, row, column) of every window, (n, 3) int32, and 1 or 0 for those that there are."""
    (tops, there), (lefts, here) = rows, columns
    shape = (*tops.shape, lefts.shape[1])
    image = jnp.arange(len(tops))[:, None, None]
    parts = (image, tops[:, :, None], lefts[:, None])
    places = jnp.stack([jnp.broadcast_to(part, shape).ravel() for part in parts], -1)
    return places.astype(jnp.int32), (there[:, :, None] & here[:, None]).ravel().astype(jnp.float32)


def _added(total: jax.Array, place: jax.Array, one: jax.Array) -> jax.Array:
    """A total (B, H, W, K) with a window (h, w, K) added at its place (image, row, column)."""
    start = (*place, 0)
    old = jax.lax.dynamic_slice(total, start, (1, *one.shape))
    return jax.lax.dynamic_update_slice(total, old + one[None], start)
