"""Where a vision transformer's class token looks, as a map over its image."""

from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.collections import layer_values, resolve_layers
from vit_jax_xfer.models.extract import first_blocks
from vit_jax_xfer.models.vit import VisionTransformer

Variables = Any


def class_attention(
    network: VisionTransformer, variables: Variables, images: jax.Array, layer: int = -1
) -> jax.Array:
    """The mean over heads of a block's class token's look at patches, (B, h, w) float32, sum 1.

    images: (B, H, W, 3). layer: of the network's blocks, negatives from the end. Of a network
    without a class token: the mean over patches, as average pooling reads them. ValueError where
    the block attends within windows.
    """
    (layer,) = resolve_layers((layer,), network.depth)
    check_looks(network, layer)
    grid, prefix = network.grid_in(images.shape), network.prefix_tokens
    network, variables = first_blocks(network, variables, layer + 1)
    _, found = network.apply(variables, images, mutable=["attention"])
    (weights,) = layer_values(found["attention"], ("attention", "map"), (layer,))
    rows = weights[:, :, 0] if network.class_token else weights[:, :, prefix:].mean(axis=2)
    looks = rows.astype(jnp.float32).mean(axis=1)[:, prefix:]
    looks = looks / looks.sum(axis=-1, keepdims=True)
    return looks.reshape(len(images), *grid)


def check_looks(network: VisionTransformer, layer: int) -> None:
    """ValueError unless a block, 0 … depth-1, looks at the whole image."""
    if network.window_of(layer):
        raise ValueError(f"layer: block {layer} attends within windows; take one that sees all")


def on_grid(looks: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Maps (B, h, w) as shares of a finer or coarser grid's cells, (B, H, W), sum 1."""
    shares = jax.image.resize(looks, (len(looks), *grid), "bilinear")
    return shares / shares.sum(axis=(1, 2), keepdims=True)
