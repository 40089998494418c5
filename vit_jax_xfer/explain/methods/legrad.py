"""LeGrad (2404.03214): the slopes of attention maps alone, each of a score of its own layer.

The score of block l is the class's logit if the mean of the tokens that leave the block stood for
all tokens at the network's end; its slope is taken by the map of block l alone. A network that ends
in attention pooling gets its scores from that, and slopes by its map.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.explain.methods.attention_products import mean_over_heads, pad_prefix
from vit_jax_xfer.explain.methods.relevance_rules import ruled
from vit_jax_xfer.explain.methods.watched_network import (
    Tree,
    WatchedNetwork,
    as_offsets,
    as_values,
    block_maps,
    note,
    noted,
    pool_map,
)
from vit_jax_xfer.models import collections
from vit_jax_xfer.models.transformer.block import Block

Parts = dict[str, Any]
# Methods of attention that take values, and which of their arguments these are.
_VALUES = {"apply_map": 1, "attend": 2}


def legrad(
    network: WatchedNetwork, images: jax.Array, target: Any, *, start_layer: int = 0
) -> Parts:
    """Mean over blocks, heads and queries of relu(slope of the block's score by its map).

    start_layer: the first block that counts; negative counts from the end. The published code's
    default is −2, the last two.
    """
    if not network.is_transformer:
        raise ValueError(
            "legrad: scores the tokens of each block, which a FilterViT's stages are too unlike "
            "for; use generic_attention or attn_lrp"
        )
    first = network.layer("start_layer", start_layer)
    layers = range(first, network.model.depth)
    if network.model.pool in ("map", "map_patches"):
        return _of_pooling(network, images, target, layers)

    def run(offsets: Any) -> Any:
        return network.run(images, offsets, (_of_one_block, _note_values), show=("residual",))

    def score(offsets: Any) -> tuple[jax.Array, Any]:
        logits, found = run(offsets)
        chosen = network.chosen(logits, target)
        means = jnp.concatenate([stream.mean(axis=1) for stream in _streams(found, layers)])
        scores = network.scores(_classify(network, means), jnp.tile(chosen, len(layers)))
        return scores.sum(), (chosen, found["watched"])

    _, shapes = jax.eval_shape(run, {})
    zeros = as_offsets(shapes["watched"])
    slopes, (chosen, values) = jax.grad(score, has_aux=True)(zeros)
    maps = network.whole_maps(images, _by_maps(as_values(slopes), values))
    slopes = block_maps(maps, layers)
    rows = [mean_over_heads(jax.nn.relu(slope)).mean(axis=1) for slope in slopes]
    tokens = jnp.stack(rows).mean(axis=0)
    return {"tokens": tokens, "target": chosen}


def _of_pooling(network: WatchedNetwork, images: jax.Array, target: Any, layers: range) -> Parts:
    """LeGrad by attention pooling's map, of the tokens that leave each block."""
    logits, found = network.run(images, {}, (), show=("residual",))
    chosen = network.chosen(logits, target)
    streams = jnp.concatenate(_streams(found, layers))

    def run(offsets: Any) -> Any:
        return network.run(streams, offsets, (note(True, None),), method="after_blocks")

    def score(offsets: Any) -> jax.Array:
        return network.scores(run(offsets)[0], jnp.tile(chosen, len(layers))).sum()

    _, shapes = jax.eval_shape(run, {})
    slopes = pool_map(as_values(jax.grad(score)(as_offsets(shapes["watched"]))))
    row = jax.nn.relu(slopes).mean(axis=1).reshape(len(layers), len(images), 1, -1).mean(axis=0)
    return {"tokens": pad_prefix(network, images, row)[:, 0], "target": chosen}


def _classify(network: WatchedNetwork, means: jax.Array) -> jax.Array:
    """Logits (B, K) of a network whose tokens all are these (B, C) after its last block."""
    number = network.model.prefix_tokens + 1
    tokens = jnp.broadcast_to(means[:, None], (len(means), number, means.shape[-1]))
    return network.model.apply(network.variables, tokens, method="after_blocks").logits


def _of_one_block(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Interceptor: nothing goes back from a block into the one before.

    The score sees the mean of a block's tokens, so that what arrives at the last layer of its MLP
    is alike for all of them, unless convolutions follow; it goes back through that layer once an
    image.
    """
    module = context.module
    if context.method_name != "__call__":
        return next_fun(*args, **kwargs)
    if isinstance(module, Block):
        return next_fun(jax.lax.stop_gradient(args[0]), *args[1:], **kwargs)
    last = isinstance(module, nn.Dense) and module.path[-2:] == ("mlp", "fc2")
    if last and not module.parent.design.propagation:
        kernel = module.get_variable("params", "kernel")
        return ruled(_alike, next_fun(*args), args[0], kernel)
    return next_fun(*args, **kwargs)


def _note_values(next_fun: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Interceptor: notes attention's values and what comes out of it, however it is computed."""
    module, position = context.module, _VALUES.get(context.method_name)
    if position is None:
        return next_fun(*args, **kwargs)
    collections.emit(module, "watched", v=args[position])
    return noted(module, "out", next_fun(*args, **kwargs))


def _by_maps(slopes: Tree, values: Tree) -> Tree:
    """Slopes by maps, ({block: {"attention": {"map"}}}), from those by what maps take of values.

    So the pass itself needs no map.
    """
    maps = {}
    for block, slope in slopes.items():
        pair = slope["attention"]["out"], values[block]["attention"]["v"]
        heads_first = (jnp.swapaxes(x, -3, -2) for x in pair)
        maps[block] = {"attention": {"map": jnp.einsum("...te,...se->...ts", *heads_first)}}
    return maps


def _alike(
    slope: jax.Array, value: jax.Array, x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Back through x (B, T, C) @ kernel (C, D), of slopes that are alike for all tokens."""
    once = slope[:, :1] @ kernel.T.astype(slope.dtype)
    return jnp.broadcast_to(once, x.shape), jnp.zeros_like(kernel)


def _streams(found: Tree, layers: range) -> list[jax.Array]:
    """The tokens that leave each block, (B, T, C)."""
    return collections.layer_values(found["residual"], ("stream",), layers)
