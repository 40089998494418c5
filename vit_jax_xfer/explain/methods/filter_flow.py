"""Explanations of a FilterViT or DropoutViT from its attention maps, which are of several sizes.

A row of relevance (B, h, w) goes back from the last map, which the head averages, to the first,
stage by stage. Attention moves it: among the pixels that a filter stage kept, to whose places it
returns; among the cells of a pooled stage's grid; among all pixels of a full stage. Convolutions
leave it in its place; a stride spreads it evenly over the pixels that became one.

The products are those of attention_products.py; a stage that adds its result to the map counts both
as half in a rollout. No publication defines this for networks of several maps.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.explain.cells import pixels, stage_axes
from vit_jax_xfer.explain.methods.attention_products import (
    accumulate,
    fuse_heads,
    mean_over_heads,
    positive_part,
    roll_out,
)
from vit_jax_xfer.explain.methods.watched_network import Watched, WatchedNetwork
from vit_jax_xfer.models.filter.convolution import adaptive_pool
from vit_jax_xfer.models.filter.filter_blocks import Stage

Parts = dict[str, Any]
# One stage's maps, and their derivatives where there are, each (B, H, T, T) of an encoder layer.
Fuse = Callable[[list[jax.Array], list[jax.Array]], jax.Array]
Shape = tuple[int, int]


def rollout(network: WatchedNetwork, seen: Watched, images: jax.Array, head_fusion: str) -> Parts:
    """Rollout: each step is the mean of what attention gathers and what stays."""
    return _flow(
        *(network, seen, images),
        lambda maps, _: roll_out([fuse_heads(one, head_fusion) for one in maps]),
        halves=True,
    )


def gradient_rollout(network: WatchedNetwork, seen: Watched, images: jax.Array) -> Parts:
    """Rollout of relu(mean over heads of A · g)."""

    def fuse(maps: list[jax.Array], slopes: list[jax.Array]) -> jax.Array:
        pairs = zip(maps, slopes, strict=True)
        return roll_out([jax.nn.relu(mean_over_heads(one * slope)) for one, slope in pairs])

    return _flow(network, seen, images, fuse, halves=True)


def generic_attention(network: WatchedNetwork, seen: Watched, images: jax.Array) -> Parts:
    """R + mean over heads of relu(A · g) R, wherever attention stands."""

    def fuse(maps: list[jax.Array], slopes: list[jax.Array]) -> jax.Array:
        return accumulate([positive_part(*pair) for pair in zip(maps, slopes, strict=True)])

    return _flow(network, seen, images, fuse, halves=False)


def raw(
    network: WatchedNetwork, seen: Watched, images: jax.Array, layer: int, head_fusion: str
) -> Parts:
    """How a stage's tokens look at each pixel of its map, the mean over queries and layers."""
    _check(network)
    layer = network.layer("layer", layer)
    shape = _shapes(network, images)[layer]
    maps, _ = _stage_maps(seen, layer)
    row = jnp.stack([fuse_heads(one, head_fusion).mean(axis=1) for one in maps]).mean(axis=0)
    placed = _place(network, seen, layer, shape, row)
    return {"map": placed, "target": seen.target}


def _flow(
    network: WatchedNetwork, seen: Watched, images: jax.Array, fuse: Fuse, halves: bool
) -> Parts:
    _check(network)
    shapes = _shapes(network, images)
    height, width = shapes[-1]
    row = jnp.full((len(images), height, width), 1 / (height * width), jnp.float32)
    for layer in reversed(range(len(network.model.stages))):
        stage, shape = network.model.stages[layer], shapes[layer]
        row = _before_stride(row, stage, shape)
        joint = fuse(*_stage_maps(seen, layer))
        taken = _take(network, seen, layer, row)
        moved = jnp.einsum("bt,bts->bs", taken, joint)
        if halves and stage.kind != "filter":
            row = (row + _place(network, seen, layer, shape, moved)) / 2
        else:  # kept pixels are overwritten; and what stays in its place counts once
            row = row + _place(network, seen, layer, shape, moved - taken)
    return {"map": row, "target": seen.target}


def _take(network: WatchedNetwork, seen: Watched, layer: int, row: jax.Array) -> jax.Array:
    """The part of a row (B, h, w) that a stage's tokens hold, (B, T)."""
    flat = row.reshape(len(row), -1)
    kept = _kept(network, seen, layer)
    if kept is not None:
        return jnp.take_along_axis(flat, kept, axis=1)
    grid = _grid(network.model.stages[layer], row.shape[1:])
    if grid == row.shape[1:]:
        return flat
    cells = jax.ShapeDtypeStruct((len(row), *grid, 1), row.dtype)
    enlarge = jax.linear_transpose(lambda x: adaptive_pool(x, row.shape[1:]), cells)
    return enlarge(row[..., None])[0].reshape(len(row), -1)


def _place(
    network: WatchedNetwork, seen: Watched, layer: int, shape: Shape, tokens: jax.Array
) -> jax.Array:
    """What a stage's tokens (B, T) hold, on the pixels of its map, (B, h, w)."""
    batch = len(tokens)
    kept = _kept(network, seen, layer)
    if kept is not None:
        flat = jnp.zeros((batch, shape[0] * shape[1]), tokens.dtype)
        put = jax.vmap(lambda empty, index, value: empty.at[index].set(value))
        return put(flat, kept, tokens).reshape(batch, *shape)
    grid = _grid(network.model.stages[layer], shape)
    if grid == shape:
        return tokens.reshape(batch, *shape)
    whole = jax.ShapeDtypeStruct((batch, *shape, 1), tokens.dtype)
    pool = jax.linear_transpose(lambda x: adaptive_pool(x, grid), whole)
    return pool(tokens.reshape(batch, *grid, 1))[0][..., 0]


def _kept(network: WatchedNetwork, seen: Watched, layer: int) -> jax.Array | None:
    """The pixels that a stage chose, (B, K); None where it chooses none."""
    if layer not in network.model.filter_stages:
        return None
    return seen.kept[f"stage_{layer}"]


def _grid(stage: Stage, shape: Shape) -> Shape:
    """The cells among which a stage without choice attends."""
    if stage.kind != "pooled":
        return shape
    return min(stage.grid, shape[0]), min(stage.grid, shape[1])


def _before_stride(row: jax.Array, stage: Stage, shape: Shape) -> jax.Array:
    """A row on the map that leaves a stage, on the map (h, w) that enters it; sums stay."""
    for axis, side in zip((1, 2), shape, strict=True):
        index = jnp.arange(side) // stage.stride
        count = jnp.bincount(index, length=row.shape[axis])
        share = row / jnp.expand_dims(count, [0, 3 - axis])
        row = jnp.take(share, index, axis=axis)
    return row


def _stage_maps(seen: Watched, layer: int) -> tuple[list[jax.Array], list[jax.Array]]:
    """A stage's maps in order, and their derivatives, empty where there are none."""
    both = []
    for tree in (seen.values, seen.gradients):
        encoders = tree.get(f"stage_{layer}", {})
        names = [f"encoder_{i}" for i in range(len(encoders))]
        both.append([encoders[name]["map"] for name in names])
    return both[0], both[1]


def _shapes(network: WatchedNetwork, images: jax.Array) -> list[Shape]:
    """The maps that enter the stages, and the one that leaves the last."""
    sides = (stage_axes(network.model, pixels(n)) for n in images.shape[1:3])
    return [(len(rows), len(columns)) for rows, columns in zip(*sides, strict=True)]


def _check(network: WatchedNetwork) -> None:
    if network.model.attend not in ("kept", "all"):
        raise ValueError(
            f"attend: {network.model.attend!r} has no map of all its tokens to follow; use "
            "gradcam, attn_lrp or a method of pixels"
        )
