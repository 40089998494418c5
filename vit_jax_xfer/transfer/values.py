"""The tensors of a transfer: picked from what a block emits, made ready to be handed over.

A block's collection `qkv` is {"attention": {"q", "k", "v"[, "bias"]}}; the same with a leading axis
over layers is a scanned network's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.averaging import averaged, mean_maps
from vit_jax_xfer.transfer.spec import Pairing, Transfer

# One layer's tensors by name: q, k, v (B, T, H, d), bias (H, T, T) where there is one.
Values = dict[str, jax.Array]


def of_student(transfer: Transfer, pairing: Pairing, emitted: Mapping[str, Any]) -> Values:
    """What one of the student's blocks puts beside the teacher's."""
    return _pick(transfer, emitted, pairing.heads, pairing.tokens)


def of_teacher(transfer: Transfer, pairing: Pairing, emitted: Mapping[str, Any]) -> Values:
    """What one of the teacher's blocks teaches, cut off from its gradient."""
    heads, tokens = pairing.matched.heads, pairing.teacher_tokens
    return _pick(transfer, jax.lax.stop_gradient(emitted), heads, tokens)


def for_copies(
    transfer: Transfer,
    pairing: Pairing,
    theirs: Values,
    student: VisionTransformer,
    counted: jax.Array | None = None,
) -> Values:
    """The teacher's of one block, as a block of the student takes them in `given`.

    counted: (B,) bool, the images that means over images are of.
    """
    if transfer.part != "map":
        return {transfer.part: theirs[transfer.part]}
    if pairing.as_maps:
        maps = kernels.attention_map(theirs["q"], theirs["k"], theirs.get("bias"))
        maps = averaged(mean_maps(maps, pairing.matched.groups), transfer.average, counted)
        return {"map": jnp.broadcast_to(maps, (len(maps), student.num_heads, *maps.shape[2:]))}
    if student.relative_bias in ("block", "shared") and "bias" not in theirs:
        # The student's own bias gives way to the teacher's, which is none.
        return {**theirs, "bias": _no_bias(theirs["k"])}
    return theirs


def _no_bias(k: jax.Array) -> jax.Array:
    _, tokens, heads, _ = k.shape
    return jnp.zeros((heads, tokens, tokens))


def _pick(
    transfer: Transfer,
    emitted: Mapping[str, Any],
    heads: Sequence[int] | None,
    tokens: Sequence[int] | None,
) -> Values:
    """A block's tensors that take part, at the chosen heads and tokens."""
    attention = emitted["attention"]
    names = [transfer.part] if transfer.part != "map" else ["q", "k", "bias"]
    axes = {"bias": ((0,), (1, 2))}
    found = {}
    for name in (name for name in names if name in attention):
        head_axes, token_axes = axes.get(name, ((2,), (1,)))
        found[name] = _take(_take(attention[name], heads, head_axes), tokens, token_axes)
    return found


def _take(x: jax.Array, places: Sequence[int] | None, axes: Sequence[int]) -> jax.Array:
    """x at the places along each of the axes; as it is without places."""
    for axis in axes if places is not None else ():
        x = jnp.take(x, jnp.asarray(places), axis=axis)
    return x
