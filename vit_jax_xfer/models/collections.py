"""What flows out of a network and into another: Flax collections, one layout in both directions.

| collection  | a block writes (out) or reads (in)                                            |
|-------------|-------------------------------------------------------------------------------|
| `attention` | out: `map` (B, H, T, T) float32, after the softmax                            |
| `qkv`       | out: `q`, `k`, `v` (B, T, H, d), before the scale; q and k are those of the   |
|             | scores, so QK norm and rotary positions are in them; `bias` (H, T, T) where   |
|             | the network adds one to the scores                                            |
| `residual`  | out: `stream` (B, T, C), the residual stream after the block                  |
| `given`     | in: any of `map`, `q`, `k`, `v`, `bias` as above, instead of the block's own; |
|             | `heads` (H,) bool says for which heads (absent: for all)                      |

| `watched`   | out: what an onlooker, such as `vjx.explain`, takes note of on the way        |

A block writes a collection only when the caller made it mutable, and reads `given` only where it
is present. Blocks sit under `blocks_0`, `blocks_1`, …, or, scanned, under `blocks` with a leading
axis over layers. Attention pooling writes a map (B, H, 1, T) under `attention_pool`.

Steps whose derivative an explanation replaces (attention_map, apply_map, activate, add, …) are
methods, so that `flax.linen.intercept_methods` reaches them; networks know nothing of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.arguments.listed_values import listed_numbers
from vit_jax_xfer.arguments.whole_numbers import is_whole

# Collections with a leading axis over layers when the blocks are scanned.
SCANNED: tuple[str, ...] = ("params", "attention", "qkv", "residual", "given", "watched")


def wanted(module: nn.Module, collection: str) -> bool:
    """Whether the caller asked for `collection`. At initialisation nothing is written."""
    return module.is_mutable_collection(collection) and not module.is_initializing()


def emit(module: nn.Module, collection: str, **values: jax.Array) -> None:
    """Writes values into a collection if the caller made it mutable; the last write stays."""
    if wanted(module, collection):
        for name, value in values.items():
            module.sow(collection, name, value, init_fn=lambda: None, reduce_fn=lambda _, new: new)


def given(module: nn.Module, names: Sequence[str]) -> dict[str, jax.Array]:
    """What the caller hands to this module in the collection `given`, often nothing."""
    return {
        name: module.get_variable("given", name)
        for name in names
        if module.has_variable("given", name)
    }


def stack_layers(
    collection: Mapping[str, Any],
    path: Sequence[str],
    layers: Sequence[int] | None = None,
) -> jax.Array:
    """One value of every block (or of `layers`), stacked: (L, …).

    path: where the value lies inside a block, for example ("attention", "map").
    """
    if "blocks" in collection:
        value = _descend(collection["blocks"], path)
        return value if layers is None else value[jnp.asarray(layers, jnp.int32)]
    if layers is None:  # of the blocks: attention pooling has a map too
        layers = range(sum(name.startswith("blocks_") for name in collection))
    return jnp.stack([_descend(collection[f"blocks_{i}"], path) for i in layers])


def layer_values(
    collection: Mapping[str, Any], path: Sequence[str], layers: Sequence[int]
) -> list[jax.Array]:
    """One value of each of `layers`, as a list, so that unused layers cost nothing under jit."""
    if "blocks" in collection:
        value = _descend(collection["blocks"], path)
        return [value[i] for i in layers]
    return [_descend(collection[f"blocks_{i}"], path) for i in layers]


def resolve_layers(layers: Sequence[int] | None, depth: int) -> tuple[int, ...]:
    """Layer indices 0 … depth-1 from None (all), or from one or several, negative from the end."""
    if layers is None:
        return tuple(range(depth))
    resolved, layers = [], listed_numbers("layers", layers)
    for layer in layers:
        if not is_whole(layer) or not -depth <= layer < depth:
            raise ValueError(f"layers: {layer} is not a layer of a network of depth {depth}")
        resolved.append(layer % depth)
    if not resolved or len(set(resolved)) < len(resolved):
        raise ValueError(f"layers: expected distinct layers, at least one; got {layers}")
    return tuple(resolved)


def block_values(collection: Mapping[str, Any], layer: int) -> Mapping[str, Any]:
    """What one block wrote into a collection, scanned or not."""
    if "blocks" in collection:
        return jax.tree.map(lambda value: value[layer], collection["blocks"])
    return collection[f"blocks_{layer}"]


def head_mask(num_heads: int, heads: Sequence[int] | None) -> jax.Array:
    """(H,) bool: which heads take what they are given; None for all."""
    if heads is None:
        return jnp.ones(num_heads, bool)
    return jnp.zeros(num_heads, bool).at[jnp.asarray(heads)].set(True)


def give_attention(
    values: Mapping[str, Sequence[jax.Array] | jax.Array],
    layers: Sequence[int],
    *,
    depth: int,
    num_heads: int,
    heads: Sequence[int] | None,
    scan: bool,
) -> dict[str, Any]:
    """The collection `given` that hands `values[name][i]` to the attention of layer `layers[i]`.

    heads: the heads that take it, None for all. A scanned model needs a value for every layer;
    there the layers that are left out get one that an all-false `heads` keeps from use.
    """
    mask = head_mask(num_heads, heads)
    if not scan:
        extra = {} if heads is None else {"heads": mask}
        return {
            f"blocks_{layer}": {
                "attention": {**{name: value[i] for name, value in values.items()}, **extra}
            }
            for i, layer in enumerate(layers)
        }
    position = {layer: i for i, layer in enumerate(layers)}
    source = jnp.asarray([position.get(layer, 0) for layer in range(depth)])
    stacked = {
        name: (value if isinstance(value, jax.Array) else jnp.stack(value))[source]
        for name, value in values.items()
    }
    if heads is not None or len(position) < depth:
        takes_part = jnp.asarray([layer in position for layer in range(depth)])
        stacked["heads"] = takes_part[:, None] & mask
    return {"blocks": {"attention": stacked}}


def _descend(tree: Mapping[str, Any], path: Sequence[str]) -> jax.Array:
    for name in path:
        tree = tree[name]
    return tree  # type: ignore[return-value]
