"""Dense descriptors: one vector a patch, of a block's keys, queries, values or tokens.

Source: Amir et al. 2021, Deep ViT Features as Dense Visual Descriptors (2112.05814), whose order of
channels, overlapping patches and log-binning the published LiFTs (2403.14625) were trained with.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.listed_values import listed_numbers
from vit_jax_xfer.arguments.whole_numbers import is_whole
from vit_jax_xfer.models.collections import layer_values
from vit_jax_xfer.models.extract import encoder_of, first_blocks
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.transformer.windows import from_windows
from vit_jax_xfer.models.vit import VisionTransformer

# facet → the collection that carries it, and where in a block of it.
_WHERE: dict[str, tuple[str, tuple[str, ...]]] = {
    "key": ("qkv", ("attention", "k")),
    "query": ("qkv", ("attention", "q")),
    "value": ("qkv", ("attention", "v")),
    "token": ("residual", ("stream",)),
    "normed": ("residual", ("stream",)),
}
FACETS: tuple[str, ...] = tuple(_WHERE)


def descriptors(
    model: Network,
    variables: Any,
    images: ArrayLike,
    facet: str = "key",
    layer: int | Sequence[int] = -1,
    stride: int | None = None,
    log_bins: bool = False,
) -> jax.Array:
    """One vector a patch of images (B, H, W, 3): (B, h, w, C) float32.

    facet: key, query or value, whose channel is (channel in the head) · heads + head; with QK norm
        or rotary positions keys and queries are those of the scores. token: the residual stream
        after the block, before any final norm. normed: after it, which of the last block is what
        `extract` calls patch tokens.
    layer: which block, negative counts from the end. Blocks after it are not run. Several stand
        side by side along the channels, in their order.
    stride: pixels between patches, a divisor of the patch size, for 1 + (side − patch) // stride
        overlapping ones a side; None = the model's own.
    log_bins: also the surroundings of each patch, C becomes 17·C; see `log_binned`.
    A MaskedAutoencoder stands for its encoder. ValueError, naming the argument, for what isn't so.
    """
    if facet not in FACETS:
        raise ValueError(f"facet: {facet!r} is none of {', '.join(FACETS)}")
    model, variables = encoder_of(model, variables)
    if "qkv" not in model.collections:
        raise ValueError(f"model: expected a VisionTransformer, got a {type(model).__name__}")
    chosen = listed_numbers("layer", layer)
    for one in chosen:
        if not is_whole(one) or not -model.depth <= one < model.depth:
            raise ValueError(f"layer: {one} is not a layer of a network of depth {model.depth}")
    if not chosen or len({one % model.depth for one in chosen}) < len(chosen):
        raise ValueError(f"layer: got {list(chosen)}, expected one or more different ones")
    if facet == "normed" and (model.norm_after_pool or not model.final_norm):
        raise ValueError("facet: this network has no final norm over its tokens; take token")
    if stride is not None and (not is_whole(stride) or stride < 1 or model.patch_size % stride):
        raise ValueError(f"stride: {stride} does not divide the patch size {model.patch_size}")
    images = given_array("images", images)
    chosen = [one % model.depth for one in chosen]
    model, variables = first_blocks(model, variables, max(chosen) + 1)
    model = model.clone(patch_stride=stride or model.patch_stride)
    collection, path = _WHERE[facet]
    _, found = model.apply(variables, images, mutable=[collection], method=_encode)
    h, w = model.grid_in(images.shape)
    parts = []
    for one, values in zip(chosen, layer_values(found[collection], path, chosen), strict=True):
        if facet == "normed":
            values = model.apply(variables, values, method=_final_norm)
        elif facet != "token":
            values = _whole(model, values, facet, one, (h, w))
        values = values[:, model.prefix_tokens :]
        parts.append(values.reshape(len(images), h, w, -1).astype(jnp.float32))
    features = jnp.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
    return log_binned(features) if log_bins else features


def _whole(
    model: VisionTransformer, values: jax.Array, facet: str, layer: int, grid: tuple[int, int]
) -> jax.Array:
    """A block's (B, T, H, d) as (B, T, d · H): out of its windows, without what offsets add."""
    size, wide = model.width // model.num_heads, values.shape[-1]
    values = values[..., :size]
    if facet == "query":
        values = values * (size / wide) ** 0.5  # decomposed_positions.py
    values = jnp.swapaxes(values, 2, 3).reshape(*values.shape[:2], -1)
    window = model.window_of(layer)
    return from_windows(values, grid, window) if window else values


def log_binned(features: ArrayLike) -> jax.Array:
    """Each cell beside its surroundings: (B, h, w, C) → (B, h, w, 17·C).

    First the 3×3 cells around it, row by row; then, 3 cells away, the ring of 8 means over 3×3
    cells. Cells and means outside the grid are the nearest inside; a mean counts inside cells.
    """
    features, bins = given_array("features", features), []
    for reach in (1, 3):
        h, w = features.shape[1:3]
        means = features
        if reach > 1:
            window = (reach, reach)
            means = nn.avg_pool(features, window, padding="SAME", count_include_pad=False)
        padded = jnp.pad(means, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
        for down, across in itertools.product((0, reach, 2 * reach), repeat=2):
            if reach == 1 or (down, across) != (reach, reach):
                bins.append(padded[:, down : down + h, across : across + w])
    return jnp.concatenate(bins, axis=-1)


def _final_norm(model: VisionTransformer, tokens: jax.Array) -> jax.Array:
    """The norm after the last block, of any block's tokens."""
    return model.norm(tokens)


def _encode(model: VisionTransformer, images: jax.Array) -> jax.Array:
    """The blocks without pooling and head."""
    tokens = model.embed(images)
    return model.encode(tokens, False, model.placement(model.grid_in(images.shape)))
