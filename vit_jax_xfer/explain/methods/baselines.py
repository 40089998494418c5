"""Maps that know nothing of the network, beside which a method has to stand."""

from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.explain.methods.patch_sums import map_shape
from vit_jax_xfer.explain.methods.watched_network import WatchedNetwork

Parts = dict[str, Any]


def random(network: WatchedNetwork, images: jax.Array, target: Any, *, seed: int = 0) -> Parts:
    """Uniform draws from 0 to 1 for each cell, by seed; image i of a batch has its own."""
    shape = (len(images), *map_shape(network, images))
    return {"map": jax.random.uniform(jax.random.key(seed), shape), "target": target}


def edges(network: WatchedNetwork, images: jax.Array, target: Any) -> Parts:
    """Strength of the image's edges: √(Sx² + Sy²) of the mean over channels, by Sobel's filters.

    The image counts as going on beyond its border as at it. Pixels sum to a cell's value.
    """
    grey = jnp.pad(images.mean(axis=-1), ((0, 0), (1, 1), (1, 1)), mode="edge")

    def along(x: jax.Array, axis: int, taps: tuple[int, int, int]) -> jax.Array:
        size = x.shape[axis] - 2
        parts = [jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(3)]
        return sum(tap * part for tap, part in zip(taps, parts, strict=True))

    down, across = (along(along(grey, axis, (-1, 0, 1)), 3 - axis, (1, 2, 1)) for axis in (1, 2))
    return {"pixels": jnp.sqrt(down**2 + across**2), "target": target}
