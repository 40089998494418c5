"""What a teacher's maps are averaged over before they move: the ablation of 2411.09702.

It shows what of a map matters: with a mean over heads all heads look alike, with one over queries
all tokens of an image look at the same places, with one over images all images do.

A mean over images is of all that go through a step together: the global batch, or with
`optim.accumulate` a part of it, with its unlabelled images, on one device as on many; at evaluation
of the batch of `eval.batch_size`, without the rows that fill the last one up. It is the one setting
by which figures hang on the size of a batch.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

Average = Literal["none", "heads", "queries", "images"]
AVERAGES: tuple[str, ...] = get_args(Average)


def averaged(maps: jax.Array, over: str, counted: jax.Array | None = None) -> jax.Array:
    """Maps (B, H, T, S) with their mean over queries or images in the place of each.

    Of heads `mean_maps` takes the mean. counted: (B,) bool, the images that a mean over images is
    of, at least one; None = all.
    """
    if over == "queries":
        return jnp.broadcast_to(maps.mean(axis=2, keepdims=True), maps.shape)
    if over == "images":
        share = jnp.ones(len(maps), maps.dtype) if counted is None else counted.astype(maps.dtype)
        mean = jnp.einsum("b,bhts->hts", share, maps) / jnp.maximum(share.sum(), 1)
        return jnp.broadcast_to(mean, maps.shape)
    return maps


def mean_maps(maps: jax.Array, groups: int | None) -> jax.Array:
    """Maps (B, H, T, S) → the mean of each of `groups` groups of heads, (B, groups, T, S)."""
    if groups is None:
        return maps
    return maps.reshape(maps.shape[0], groups, -1, *maps.shape[2:]).mean(axis=2)
