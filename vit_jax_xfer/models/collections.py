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

A block writes a collection only when the caller made it mutable, and reads `given` only where it
is present. Blocks sit under `blocks_0`, `blocks_1`, …, or, scanned, under `blocks` with a leading
axis over layers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# Collections with a leading axis over layers when the blocks are scanned.
SCANNED: tuple[str, ...] = ("params", "attention", "qkv", "residual", "given")


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
    indices = range(len(collection)) if layers is None else layers
    return jnp.stack([_descend(collection[f"blocks_{i}"], path) for i in indices])


def layer_values(
    collection: Mapping[str, Any], path: Sequence[str], layers: Sequence[int]
) -> list[jax.Array]:
    """One value of each of `layers`, as a list, so that unused layers cost nothing under jit."""
    if "blocks" in collection:
        value = _descend(collection["blocks"], path)
        return [value[i] for i in layers]
    return [_descend(collection[f"blocks_{i}"], path) for i in layers]


def give_attention(
    values: Mapping[str, Sequence[jax.Array]],
    layers: Sequence[int],
    *,
    depth: int,
    num_heads: int,
    heads: Sequence[int] | None,
    scan: bool,
) -> dict[str, Any]:
    """The collection `given` that hands `values[name][i]` to the attention of layer `layers[i]`.

    heads: the heads that take it, None for all. A scanned model needs a value for every layer;
    there the layers that are left out get zeros and an all-false `heads`.
    """
    mask = jnp.ones(num_heads, bool)
    if heads is not None:
        mask = jnp.zeros(num_heads, bool).at[jnp.asarray(heads)].set(True)
    partial = heads is not None
    if not scan:
        extra = {"heads": mask} if partial else {}
        return {
            f"blocks_{layer}": {
                "attention": {**{name: value[i] for name, value in values.items()}, **extra}
            }
            for i, layer in enumerate(layers)
        }
    position = {layer: i for i, layer in enumerate(layers)}
    stacked = {
        name: jnp.stack(
            [
                value[position[layer]] if layer in position else jnp.zeros_like(value[0])
                for layer in range(depth)
            ]
        )
        for name, value in values.items()
    }
    if partial or len(position) < depth:
        stacked["heads"] = jnp.stack(
            [mask if layer in position else jnp.zeros_like(mask) for layer in range(depth)]
        )
    return {"blocks": {"attention": stacked}}


def _descend(tree: Mapping[str, Any], path: Sequence[str]) -> jax.Array:
    for name in path:
        tree = tree[name]
    return tree  # type: ignore[return-value]
