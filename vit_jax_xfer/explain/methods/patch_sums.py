"""From pixels to the cells of a network's map: sums over what each cell covers."""

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.explain.cells import pixels, stage_axes
from vit_jax_xfer.explain.methods.watched_network import WatchedNetwork


def map_shape(network: WatchedNetwork, images: jax.Array) -> tuple[int, int]:
    """(h, w) of the maps that are given of these images."""
    rows, columns = (len(edges) for edges in _covers(network, images))
    return rows, columns


def sum_cells(network: WatchedNetwork, images: jax.Array, values: jax.Array) -> jax.Array:
    """Values of pixels (B, H, W) summed over the cells of the network's map, (B, h, w).

    A vision transformer's cells are its patches, which overlap with a `patch_stride`; a filter
    network's are those of the map that enters its first stage; another's are the pixels.
    """
    rows, columns = (
        jnp.asarray(_overlap(cover, side), values.dtype)
        for cover, side in zip(_covers(network, images), values.shape[1:], strict=True)
    )
    return jnp.einsum("hy,byx,wx->bhw", rows, values, columns)


def _covers(network: WatchedNetwork, images: jax.Array) -> list[np.ndarray]:
    """For rows and for columns: first pixel and end of each cell, (n, 2)."""
    model = network.model
    if network.is_transformer:
        step = model.patch_stride or model.patch_size
        starts = [np.arange(n) * step for n in model.grid_in(images.shape)]
        return [np.stack([start, start + model.patch_size], axis=1) for start in starts]
    edges = [pixels(side).edges for side in images.shape[1:3]]
    if network.is_filter:
        edges = [stage_axes(model, pixels(side))[0].edges for side in images.shape[1:3]]
    return [np.stack([one[:-1], one[1:]], axis=1) for one in edges]


def _overlap(cover: np.ndarray, side: int) -> np.ndarray:
    """How much of each of `side` pixels lies in each cell, (n, side)."""
    first = np.arange(side)
    end = np.minimum(cover[:, 1:], first + 1)
    return np.clip(end - np.maximum(cover[:, :1], first), 0, 1)
