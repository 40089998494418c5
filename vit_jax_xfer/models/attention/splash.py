"""Attention by the splash kernel of JAX's Pallas, on TPUs: no map, forward or backward.

The kernel takes whole blocks of tokens. What is added to fill them is masked as keys and cut off as
queries, so that any number of tokens will do.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as pallas_splash

LANES = 128  # of a TPU's vector unit: a block is a multiple of them
# Long blocks keep the matrix unit busy; the map of one has to fit a core's own memory.
BLOCKS = range(2 * LANES, 8 * LANES + 1, LANES)

# Runs the kernel as a plain program, very slowly, where there is no TPU: set by tests.
INTERPRET = False


def splash_attention(q: jax.Array, k: jax.Array, v: jax.Array, scale: float) -> jax.Array:
    """softmax(scale · q kᵀ) v: q (B, T, H, d), k (B, S, H, d), v (B, S, H, e) → (B, T, H, e).

    bfloat16 or float32, q and k of one type. The softmax is float32, the result of v's type. The
    scale goes into q in q's type: exact where it is a power of two (d = 16, 64, 256), else one
    rounding more.
    """
    kernel = _kernel(q.shape[1], k.shape[1], save_residuals=False)
    return _heads_apart(kernel(*_flat(q * scale, k, v)), q, v)


def splash_with_logsumexp(
    q: jax.Array, k: jax.Array, v: jax.Array, scale: float
) -> tuple[jax.Array, jax.Array]:
    """As `splash_attention`, and each row's log Σ exp(score), (B, H, T) float32. No derivative."""
    kernel = _kernel(q.shape[1], k.shape[1], save_residuals=True)
    out, (logsumexp,) = kernel(*_flat(q * scale, k, v))
    shape = (q.shape[0], q.shape[2], -1)
    return _heads_apart(out, q, v), logsumexp.reshape(shape)[:, :, : q.shape[1]]


def block_size(tokens: int) -> int:
    """How many tokens a block has: as few as possible are added, and of equals the longest."""
    if tokens <= BLOCKS.start:
        return -(-tokens // LANES) * LANES
    return min(BLOCKS, key=lambda block: (-tokens % block, -block))


def _kernel(queries: int, keys: int, save_residuals: bool) -> Callable[..., Any]:
    """The kernel for so many tokens of any number of heads."""
    rows, columns = block_size(queries), block_size(keys)
    every = pallas_splash.FullMask((queries + -queries % rows, keys + -keys % columns))
    return pallas_splash.make_splash_mha_single_device(
        pallas_splash.MultiHeadMask([every]),
        block_sizes=pallas_splash.BlockSizes(
            block_q=rows,
            block_kv=columns,
            block_q_dkv=rows,
            block_kv_dkv=columns,
            block_q_dq=rows,
            block_kv_dq=columns,
        ),
        save_residuals=save_residuals,
        interpret=INTERPRET,
    )


def _flat(
    q: jax.Array, k: jax.Array, v: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, pallas_splash.SegmentIds | None]:
    """q, k, v as (B · H, blocks · block, d): every image's heads are heads of one. And the mask."""

    def flat(x: jax.Array) -> jax.Array:
        batch, tokens, heads, dim = x.shape
        x = jnp.swapaxes(x, 1, 2).reshape(batch * heads, tokens, dim)
        return jnp.pad(x, ((0, 0), (0, -tokens % block_size(tokens)), (0, 0)))

    queries, keys, values = flat(q), flat(k), flat(v)
    if keys.shape[1] == k.shape[1]:
        return queries, keys, values, None
    # A query sees the keys of its own segment: the first.
    added = jnp.arange(keys.shape[1]) >= k.shape[1]
    segments = jnp.zeros(queries.shape[1], jnp.int32), added.astype(jnp.int32)
    return queries, keys, values, pallas_splash.SegmentIds(*segments)


def _heads_apart(out: jax.Array, q: jax.Array, v: jax.Array) -> jax.Array:
    """(B · H, blocks · block, e) → (B, T, H, e) in v's type."""
    batch, queries, heads, _ = q.shape
    out = out.reshape(batch, heads, *out.shape[1:])[:, :, :queries]
    return jnp.swapaxes(out, 1, 2).astype(v.dtype)
