"""The tensors of a transfer: picked from what both networks emit, made ready to be handed over."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.collections import layer_values
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.losses import mean_maps
from vit_jax_xfer.transfer.spec import Pairing, Transfer

# One layer's tensors by name: q, k, v (B, T, H, d), bias (H, T, T) where there is one.
Values = dict[str, jax.Array]


def of_student(transfer: Transfer, pairing: Pairing, emitted: Mapping[str, Any]) -> list[Values]:
    """What the student's collection `qkv` puts beside the teacher's, one entry a layer."""
    return _pick(transfer, emitted, pairing.layers, pairing.heads, pairing.tokens)


def of_teacher(transfer: Transfer, pairing: Pairing, emitted: Mapping[str, Any]) -> list[Values]:
    """What the teacher's collection `qkv` teaches, one entry a layer, cut off from its gradient."""
    heads, tokens = pairing.matched.heads, pairing.teacher_tokens
    return _pick(transfer, jax.lax.stop_gradient(emitted), pairing.teacher_layers, heads, tokens)


def for_copies(
    transfer: Transfer, pairing: Pairing, theirs: Sequence[Values], student: VisionTransformer
) -> dict[str, list[jax.Array]]:
    """{name: one array a layer} of the teacher's, for the student's collection `given`."""
    if transfer.part != "map":
        return {transfer.part: [layer[transfer.part] for layer in theirs]}
    if pairing.as_maps:
        return {"map": [_map(layer, pairing.matched.groups, student.num_heads) for layer in theirs]}
    if student.relative_bias != "none" and "bias" not in theirs[0]:
        # The student's own bias gives way to the teacher's, which is none.
        theirs = [{**layer, "bias": _no_bias(layer["k"])} for layer in theirs]
    return {name: [layer[name] for layer in theirs] for name in theirs[0]}


def _map(layer: Values, groups: int | None, num_heads: int) -> jax.Array:
    """The map (B, H, T, T) for each of the student's heads."""
    maps = kernels.attention_map(layer["q"], layer["k"], layer.get("bias"))
    maps = mean_maps(maps, groups)
    return jnp.broadcast_to(maps, (maps.shape[0], num_heads, *maps.shape[2:]))


def _no_bias(k: jax.Array) -> jax.Array:
    _, tokens, heads, _ = k.shape
    return jnp.zeros((heads, tokens, tokens))


def _pick(
    transfer: Transfer,
    emitted: Mapping[str, Any],
    layers: Sequence[int],
    heads: Sequence[int] | None,
    tokens: Sequence[int] | None,
) -> list[Values]:
    """The layers' tensors that take part, at the chosen heads and tokens."""
    names = [transfer.part] if transfer.part != "map" else ["q", "k"]
    found = {name: layer_values(emitted, ("attention", name), layers) for name in names}
    if transfer.part == "map" and _has_bias(emitted):
        found["bias"] = layer_values(emitted, ("attention", "bias"), layers)
    for name, arrays in found.items():
        head_axes, token_axes = ((0,), (1, 2)) if name == "bias" else ((2,), (1,))
        found[name] = [_take(_take(x, heads, head_axes), tokens, token_axes) for x in arrays]
    return [dict(zip(found, arrays, strict=True)) for arrays in zip(*found.values(), strict=True)]


def _has_bias(emitted: Mapping[str, Any]) -> bool:
    return any("bias" in block["attention"] for block in emitted.values())


def _take(x: jax.Array, places: Sequence[int] | None, axes: Sequence[int]) -> jax.Array:
    """x at the places along each of the axes; as it is without places."""
    for axis in axes if places is not None else ():
        x = jnp.take(x, jnp.asarray(places), axis=axis)
    return x
