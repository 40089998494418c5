"""Labels of a video's earlier frames carried to the next one by similarity of features.

The protocol of DINO's video segmentation: Jabri et al., arXiv 2006.14613; Caron et al., 2104.14294.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.array_checks import (
    require_equal,
    require_features,
    require_finite,
    require_shape,
    unit_vectors,
)
from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.whole_numbers import check_number, check_whole

# The most similarities that exist at a time: 16 MB of float32, of which a few copies live.
BLOCK = 1 << 22


def propagate_labels(
    context_features: ArrayLike,
    context_labels: ArrayLike,
    target_features: ArrayLike,
    radius: int = 12,
    topk: int = 5,
    temperature: float = 0.1,
) -> jax.Array:
    """The labels of a frame as weighted means of those of the cells that look most alike.

    context_features (n, h, w, C), context_labels (n, h, w, K), target_features (h, w, C), all on
    one grid, → (h, w, K) float32. A target cell looks at the context cells at most `radius` rows
    and columns away in every frame (0 = everywhere), keeps the `topk` largest cosines over all
    frames together, those that tie with the last one included, and weighs them by
    exp(cosine / temperature). Fewer cells than topk are all kept. A feature of zeros is at cosine
    0 of everything. A label that no kept cell has is 0.

    Memory: a block of similarities at a time, whatever the grid. ValueError for arrays that don't
    fit each other, or aren't finite.
    """
    context = given_array("context_features", context_features)
    target = given_array("target_features", target_features)
    labels = given_array("context_labels", context_labels)
    require_features("context_features", context, "(n, h, w, C)")
    require_features("target_features", target, "(h, w, C)")
    require_shape("context_labels", labels, "(n, h, w, K)")
    require_finite("context_labels", labels)
    require_equal("target_features", target.shape, context.shape[1:], "a frame of context_features")
    require_equal("context_labels", labels.shape[:3], context.shape[:3], "context_features")
    check_whole("radius", radius, 0)
    check_whole("topk", topk)
    check_number("temperature", temperature)
    if not isinstance(temperature, jax.core.Tracer) and not temperature > 0:
        raise ValueError(f"temperature: expected more than 0, got {temperature}")
    return _propagate(
        context, labels, target, temperature, radius=int(radius), topk=int(topk), block=BLOCK
    )


@functools.partial(jax.jit, static_argnames=("radius", "topk", "block"))
def _propagate(
    context: jax.Array,
    labels: jax.Array,
    target: jax.Array,
    temperature: float,
    *,
    radius: int,
    topk: int,
    block: int,
) -> jax.Array:
    """propagate_labels by square tiles of the target, each with the context that it may look at."""
    n, h, w, channels = context.shape
    reach = radius or max(h, w)
    side = _tile_side(n, h, w, reach, block)
    tile = (min(side, h), min(side, w))
    window = (min(tile[0] + 2 * reach, h), min(tile[1] + 2 * reach, w))
    rows, columns = -(-h // tile[0]), -(-w // tile[1])
    padding = ((0, rows * tile[0] - h), (0, columns * tile[1] - w), (0, 0))
    target = jnp.pad(target, padding)

    def propagate(index: jax.Array) -> jax.Array:
        y, x = index // columns * tile[0], index % columns * tile[1]
        top, near_y = _near(y, tile[0], window[0], h, reach)
        left, near_x = _near(x, tile[1], window[1], w, reach)
        here = lax.dynamic_slice(target, (y, x, 0), (*tile, channels))
        there = lax.dynamic_slice(context, (0, top, left, 0), (n, *window, channels))
        known = lax.dynamic_slice(labels, (0, top, left, 0), (n, *window, labels.shape[-1]))
        cosines = jnp.einsum(
            "yxc,nijc->yxnij", unit_vectors(here), unit_vectors(there), precision="highest"
        )
        near = near_y[:, None, None, :, None] & near_x[None, :, None, None, :]
        cosines = jnp.where(near, cosines, -jnp.inf).reshape(tile[0] * tile[1], -1)
        known = known.reshape(-1, known.shape[-1]).astype(jnp.float32)
        weights = _weights(cosines, topk, temperature)
        return jnp.matmul(weights, known, precision="highest").reshape(*tile, -1)

    tiles = lax.map(propagate, jnp.arange(rows * columns))
    tiles = tiles.reshape(rows, columns, *tile, -1).swapaxes(1, 2)
    return tiles.reshape(rows * tile[0], columns * tile[1], -1)[:h, :w]


def _tile_side(n: int, h: int, w: int, reach: int, block: int) -> int:
    """The largest tile whose similarities fit a block: the larger, the less is looked at twice."""
    side = 32
    while side > 1:
        window = min(side + 2 * reach, h) * min(side + 2 * reach, w)
        if min(side, h) * min(side, w) * n * window <= block:
            break
        side //= 2
    return side


def _near(
    start: jax.Array, length: int, window: int, size: int, reach: int
) -> tuple[jax.Array, jax.Array]:
    """Where a tile's window begins along an axis, and which of its places each cell may see."""
    first = jnp.clip(start - reach, 0, size - window)
    # Beyond the border lies padding, which looks at what the last cell does and is cut off.
    cells = jnp.minimum(start + jnp.arange(length), size - 1)
    return first, jnp.abs(first + jnp.arange(window) - cells[:, None]) <= reach


def _weights(cosines: jax.Array, topk: int, temperature: float) -> jax.Array:
    """Softmax of each row over its topk largest values and what ties with the last of them."""
    best = lax.top_k(cosines, min(topk, cosines.shape[-1]))[0]
    # Not the first and the last of them: where a part is taken, XLA sorts all there is (70 times
    # slower on a CPU).
    largest, least = best.max(-1, keepdims=True), best.min(-1, keepdims=True)
    # From the largest down, or a low temperature overflows.
    weights = jnp.where(cosines >= least, jnp.exp((cosines - largest) / temperature), 0.0)
    return weights / weights.sum(-1, keepdims=True)
