"""Scaled dot-product attention: the one place where a kernel is chosen.

Layouts: q (B, T, H, d), k (B, S, H, d), v (B, S, H, e) → (B, T, H, e); row statistics (B, H, T).
Softmax and its statistics are float32 (float64 for float64 input), whatever the input's type.

| name        | what runs                                       | memory, forward and backward |
|-------------|-------------------------------------------------|------------------------------|
| `plain`     | einsum, softmax, einsum; division at the end    | B·H·T·S                      |
| `blockwise` | `plain` on blocks of queries, rematerialised    | B·H·block·S                  |
| `cudnn`     | the fused kernel of `jax.nn`, NVIDIA GPUs only  | B·T·H·d                      |
| `splash`    | the fused kernel of Pallas, TPUs only; no bias  | B·T·H·128                    |
| `tokamax`   | what the package of this name finds best        | its choice                   |
| `auto`      | on H100s and H200s `cudnn` where it can, without a bias; else `plain` up to     |
|             | `blockwise_above` keys, then on TPUs `splash` where it can, then `blockwise`    |

`blockwise_above` is 128 keys where nothing is given, on TPUs 1024 (kernel_choice.py).

docs/attention_kernels.md has the types and shapes, and what is tested where.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from vit_jax_xfer.models.attention.kernel_choice import (
    IMPLEMENTATIONS,
    Implementation,
    choose,
    takes_blocks,
)
from vit_jax_xfer.models.attention.per_device import per_device
from vit_jax_xfer.models.attention.splash import splash_attention, splash_with_logsumexp
from vit_jax_xfer.models.devices import platform

__all__ = [
    "IMPLEMENTATIONS",
    "Implementation",
    "apply_map",
    "attention_map",
    "attention_scores",
    "attention_with_logsumexp",
    "block_rows",
    "choose",
    "dot_product_attention",
    "logsumexp_without_derivative",
    "over_query_blocks",
    "takes_blocks",
    "unrolled",
]

# The most rows of queries in flight in the blockwise form: large enough for an efficient matrix
# product, small enough that a block of float32 scores over a few thousand keys stays within tens
# of MB.
QUERY_BLOCK = 256
# Blocks up to which a CPU has them one after the other in the program: two in a loop take 1.4 times
# as long (benchmarks/NOTES.md).
WITHOUT_LOOP = 2
# What a block keeps for its backward pass beside its inputs: nothing as large as its rows of a map.
KEPT = "attention rows"


def dot_product_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    *,
    scale: float | None = None,
    implementation: str = "auto",
    blockwise_above: int | None = None,
) -> jax.Array:
    """softmax(scale · q kᵀ + bias) v, (B, T, H, e) in v's dtype; `scale` defaults to 1/√d.

    bias: (H, T, S), the same for all images, or None. ValueError where `implementation` can't run.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    narrow = q.shape[-1] - v.shape[-1]
    if narrow > 0 and platform() == "gpu":  # whose fused kernel takes one head size for all three
        wide = jnp.pad(v, ((0, 0),) * 3 + ((0, narrow),))
        given = {"scale": scale, "blockwise_above": blockwise_above}
        given["implementation"] = implementation
        return dot_product_attention(q, k, wide, bias, **given)[..., :-narrow]
    kernel = choose(q, k, v, implementation, blockwise_above, biased=bias is not None)
    if kernel == "cudnn":  # which the compiler splits over a mesh by itself
        wide = None if bias is None else bias[None].astype(q.dtype)
        return jax.nn.dot_product_attention(q, k, v, wide, scale=scale, implementation="cudnn")
    if kernel == "splash":
        return per_device(partial(splash_attention, scale=scale), q, k, v)
    if kernel == "tokamax":
        return per_device(partial(_tokamax, scale=scale), q, k, v, bias)
    blockwise = kernel == "blockwise"
    return attention_with_logsumexp(q, k, v, bias, scale=scale, blockwise=blockwise)[0]


def logsumexp_without_derivative(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    *,
    scale: float,
    implementation: str,
    blockwise_above: int | None,
) -> tuple[jax.Array, jax.Array]:
    """As `attention_with_logsumexp`, by the kernel that `choose` names where that has it exactly.

    That is splash. cuDNN rounds it to the inputs' type, so cuDNN and tokamax go portable here. For
    the forward pass of a custom derivative: not every kernel has one of its own.
    """
    kernel = choose(q, k, v, implementation, blockwise_above)
    if kernel == "splash":
        return per_device(
            partial(splash_with_logsumexp, scale=scale), q, k, v, gives=("tokens", "rows")
        )
    blockwise = kernel == "blockwise" or (
        kernel != "plain" and takes_blocks(k.shape[1], blockwise_above)
    )
    return attention_with_logsumexp(q, k, v, scale=scale, blockwise=blockwise)


def attention_with_logsumexp(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    *,
    scale: float,
    blockwise: bool,
) -> tuple[jax.Array, jax.Array]:
    """Attention (B, T, H, e) in v's dtype and each row's log Σ exp(score), (B, H, T) float32.

    This is the portable form, which every backend runs. The log-sum-exp is exact, unlike the
    residual of `jax.nn.dot_product_attention`, which is rounded to the inputs' type and which
    autodiff ignores.
    """
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    if blockwise:
        out, logsumexp = _blockwise(q, k, v, bias, scale)
    else:
        out, logsumexp = _rows(q, k, v, bias, scale)
    return jnp.swapaxes(out, 1, 2), logsumexp


def attention_map(
    q: jax.Array, k: jax.Array, bias: jax.Array | None = None, *, scale: float | None = None
) -> jax.Array:
    """softmax(scale · q kᵀ + bias), (B, H, T, S) float32: the map, for those who ask to see it."""
    return jax.nn.softmax(attention_scores(q, k, bias, scale=scale), axis=-1)


def attention_scores(
    q: jax.Array, k: jax.Array, bias: jax.Array | None = None, *, scale: float | None = None
) -> jax.Array:
    """scale · q kᵀ + bias before the softmax, (B, H, T, S) float32."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    wide = _wide(q.dtype)
    q, k = (jnp.swapaxes(x, 1, 2) for x in (q, k))  # as `_rows`, and as fast
    scores = scale * jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=wide)
    return scores if bias is None else scores + bias.astype(wide)


def apply_map(weights: jax.Array, v: jax.Array) -> jax.Array:
    """A map (B, H, T, S) times values (B, S, H, e) → (B, T, H, e) in v's dtype."""
    values = jnp.swapaxes(v, 1, 2)
    weights = weights.astype(v.dtype)
    out = jnp.einsum("bhts,bhse->bhte", weights, values, preferred_element_type=_wide(v.dtype))
    return jnp.swapaxes(out, 1, 2).astype(v.dtype)


def _rows(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, scale: float
) -> tuple[jax.Array, jax.Array]:
    """All rows at once, in (B, H, T, d) layout, which XLA's CPU backend runs about 2.5 × faster."""
    wide = _wide(q.dtype)
    if q.dtype == wide:  # T·d products instead of T·S; smaller types would round them
        q, scale = scale * q, 1.0
    scores = scale * jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=wide)
    if bias is not None:
        scores = scores + bias.astype(wide)
    highest = _kept(jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True)))
    weights = jnp.exp(scores - highest)
    total = _kept(weights.sum(axis=-1, keepdims=True))
    # Dividing T·e products instead of T·S weights saves a pass over the map.
    product = partial(jnp.einsum, preferred_element_type=wide)
    out = _kept(product("bhts,bhse->bhte", weights.astype(v.dtype), v))
    return (out / total).astype(v.dtype), (highest + jnp.log(total))[..., 0]


def _blockwise(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, scale: float
) -> tuple[jax.Array, jax.Array]:
    """`_rows` over blocks of queries; the backward pass recomputes each block's weights."""
    return over_query_blocks(
        lambda q_block, bias_block: _rows(q_block, k, v, bias_block, scale), q, bias
    )


def block_rows(length: int) -> tuple[int, int]:
    """(blocks, rows of each) that `length` queries are split into, the last padded.

    As even as can be, of QUERY_BLOCK rows at most, and two at least: one would be a whole map.
    """
    number = max(-(-length // QUERY_BLOCK), 2)
    return number, -(-length // number)


def over_query_blocks(function: Callable[..., Any], *rows: jax.Array | None) -> Any:
    """`function` on blocks of queries (`block_rows`), one after the other, its results together.

    rows: arrays (…, T, C), of which `function` gets (…, block, C), padded with zeros; None stays.
    It returns arrays (B, H, block, …). The backward pass computes each block again, so that only
    its inputs are kept, and without a loop what `function` names KEPT.
    """
    first = next(x for x in rows if x is not None)
    length = first.shape[-2]
    number, block = block_rows(length)

    def split(x: jax.Array | None) -> jax.Array | None:
        if x is None:
            return None
        padding = [(0, 0)] * x.ndim
        padding[-2] = (0, number * block - length)
        x = jnp.pad(x, padding)
        return jnp.moveaxis(x.reshape(*x.shape[:-2], number, block, x.shape[-1]), -3, 0)

    def join(x: jax.Array) -> jax.Array:
        x = jnp.moveaxis(x, 0, 2)
        x = x.reshape(*x.shape[:2], number * block, *x.shape[4:])
        return x[:, :, :length]

    unroll = unrolled(number)
    keep = jax.checkpoint_policies.save_only_these_names(KEPT) if unroll > 1 else None

    @partial(jax.checkpoint, policy=keep)
    def step(_: None, blocks: tuple[jax.Array | None, ...]) -> tuple[None, Any]:
        return None, function(*blocks)

    _, results = jax.lax.scan(step, None, tuple(split(x) for x in rows), unroll=unroll)
    return jax.tree.map(join, results)


def unrolled(number: int) -> int:
    """`unroll=` of a scan over so many blocks."""
    return number if platform() == "cpu" and number <= WITHOUT_LOOP else 1


def _kept(x: jax.Array) -> jax.Array:
    """The same, not computed again in a backward pass."""
    return checkpoint_name(x, KEPT)


def _tokamax(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None = None, *, scale: float
) -> jax.Array:
    """Attention by the optional package, from the kernels that it has for this machine."""
    import tokamax  # optional, and slow to import
    from absl import flags

    if not flags.FLAGS.is_parsed():
        # Else it would parse the arguments of whatever program runs this, and fail on them.
        flags.FLAGS.mark_as_parsed()
    wide = None if bias is None else bias[None]
    return tokamax.dot_product_attention(q, k, v, wide, scale=scale).astype(v.dtype)


def _wide(dtype: jnp.dtype) -> jnp.dtype:
    """The type in which products are summed: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)
