"""How the class token looks at the patches, head by head, as DINO shows it (2104.14294)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.whole_numbers import check_number
from vit_jax_xfer.explain.methods.watched_network import (
    WatchedNetwork,
    block_maps,
    open_network,
    pool_map,
)
from vit_jax_xfer.models.protocol import Network


def class_attention(
    model: Network, variables: Any, images: ArrayLike, keep_mass: float | None = None
) -> jax.Array:
    """The class token's attention to each patch in the last block, (B, H, h, w) float32.

    keep_mass: bool masks instead, of the patches that hold this share of a head's attention to
    patches: in ascending order those whose cumulative share is above 1 − keep_mass.
    A network without class token that ends in attention pooling shows its pooling's attention.
    ValueError for one with neither.
    """
    network = open_network(model, variables)
    if not network.is_transformer:
        raise ValueError("model: a FilterViT has no class token; its choices are extract's filters")
    model, images = network.model, given_array("images", images)
    if not model.class_token and model.pool not in ("map", "map_patches"):
        raise ValueError(
            f"model: no class token and pool={model.pool!r}; use explain.attribute's raw_attention"
        )
    with jax.default_matmul_precision("highest"):
        row = _row(model, network.variables, images)
    height, width = model.grid_in(images.shape)
    maps = row[..., -height * width :].reshape(*row.shape[:2], height, width)
    return maps if keep_mass is None else mass_masks(maps, keep_mass)


@functools.partial(jax.jit, static_argnums=0)
def _row(model: Network, variables: Any, images: jax.Array) -> jax.Array:
    """The class token's attention to all tokens in the last block, or the pooling's, (B, H, T)."""
    seen = WatchedNetwork(model, variables).watch(images, gradients=False)
    if model.class_token:
        return block_maps(seen.values, [model.depth - 1])[0][:, :, 0]
    return pool_map(seen.values)[:, :, 0]


def mass_masks(maps: jax.Array, keep_mass: float) -> jax.Array:
    """The cells of maps (…, h, w) that hold the largest `keep_mass` of each map's sum, bool."""
    check_number("keep_mass", keep_mass)
    if not 0.0 < keep_mass <= 1.0:
        raise ValueError(f"keep_mass: expected a share above 0, up to 1; got {keep_mass}")
    flat = maps.reshape(*maps.shape[:-2], -1)
    flat = flat / flat.sum(axis=-1, keepdims=True)
    order = jnp.argsort(flat, axis=-1)
    above = jnp.cumsum(jnp.take_along_axis(flat, order, axis=-1), axis=-1) > 1 - keep_mass
    mask = jnp.take_along_axis(above, jnp.argsort(order, axis=-1), axis=-1)
    return mask.reshape(maps.shape)
