"""Scaled dot-product attention: the one place where a kernel is chosen.

Layouts: q (B, T, H, d), k (B, S, H, d), v (B, S, H, e) → (B, T, H, e); row statistics (B, H, T).
Softmax and its statistics are float32 (float64 for float64 input), whatever the input's type.

| name        | what runs                                       | memory, forward and backward |
|-------------|-------------------------------------------------|------------------------------|
| `plain`     | einsum, softmax, einsum; division at the end    | B·H·T·S                      |
| `blockwise` | `plain` on blocks of queries, rematerialised    | B·H·block·S                  |
| `cudnn`     | the fused kernel of `jax.nn`, NVIDIA GPUs only  | B·T·H·d                      |
| `auto`      | `cudnn` where it can and no bias is added, else `plain` up to `blockwise_above`
|             | keys, then `blockwise`                                                          |
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

Implementation = Literal["auto", "plain", "blockwise", "cudnn"]
IMPLEMENTATIONS: tuple[str, ...] = get_args(Implementation)

# Rows of queries in flight in the blockwise form: large enough for an efficient matrix product,
# small enough that a block of float32 scores over a few thousand keys stays within tens of MB.
QUERY_BLOCK = 256


def choose(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    requested: str,
    blockwise_above: int,
    biased: bool = False,
) -> Literal["plain", "blockwise", "cudnn"]:
    """Names the kernel that runs for these arrays; `requested` other than "auto" is final."""
    if requested not in IMPLEMENTATIONS:
        raise ValueError(
            f"attention implementation {requested!r} is unknown; choose one of {IMPLEMENTATIONS}"
        )
    if requested != "auto":
        return requested  # type: ignore[return-value]
    # The fused kernel's derivative of a bias costs a map for every image, so a bias goes portable.
    if not biased and _cudnn_fits(q, k, v):
        return "cudnn"
    return "blockwise" if k.shape[1] > blockwise_above else "plain"


def dot_product_attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    *,
    scale: float | None = None,
    implementation: str = "auto",
    blockwise_above: int = 1024,
) -> jax.Array:
    """softmax(scale · q kᵀ + bias) v, (B, T, H, e) in v's dtype; `scale` defaults to 1/√d.

    bias: (H, T, S), the same for all images, or None.
    """
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    kernel = choose(q, k, v, implementation, blockwise_above, biased=bias is not None)
    if kernel == "cudnn":
        wide = None if bias is None else bias[None].astype(q.dtype)
        return jax.nn.dot_product_attention(q, k, v, wide, scale=scale, implementation="cudnn")
    blockwise = kernel == "blockwise"
    return attention_with_logsumexp(q, k, v, bias, scale=scale, blockwise=blockwise)[0]


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
    scores = scale * jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=wide)
    return scores if bias is None else scores + bias.astype(wide)


def apply_map(weights: jax.Array, v: jax.Array) -> jax.Array:
    """A map (B, H, T, S) times values (B, S, H, e) → (B, T, H, e) in v's dtype."""
    out = jnp.einsum(
        "bhts,bshe->bthe", weights.astype(v.dtype), v, preferred_element_type=_wide(v.dtype)
    )
    return out.astype(v.dtype)


def _rows(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, scale: float
) -> tuple[jax.Array, jax.Array]:
    """All rows at once, in (B, H, T, d) layout, which XLA's CPU backend runs about 2.5 × faster."""
    wide = _wide(q.dtype)
    scores = scale * jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=wide)
    if bias is not None:
        scores = scores + bias.astype(wide)
    highest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
    weights = jnp.exp(scores - highest)
    total = weights.sum(axis=-1, keepdims=True)
    # Dividing T·e products instead of T·S weights saves a pass over the map.
    out = jnp.einsum("bhts,bhse->bhte", weights.astype(v.dtype), v, preferred_element_type=wide)
    return (out / total).astype(v.dtype), (highest + jnp.log(total))[..., 0]


def _blockwise(
    q: jax.Array, k: jax.Array, v: jax.Array, bias: jax.Array | None, scale: float
) -> tuple[jax.Array, jax.Array]:
    """`_rows` over blocks of queries; the backward pass recomputes each block's weights."""
    return over_query_blocks(
        lambda q_block, bias_block: _rows(q_block, k, v, bias_block, scale), q, bias
    )


def over_query_blocks(function: Callable[..., Any], *rows: jax.Array | None) -> Any:
    """`function` on blocks of QUERY_BLOCK queries, one after the other, its results put together.

    rows: arrays (…, T, C), of which `function` gets (…, block, C), padded with zeros; None stays.
    It returns arrays (B, H, block, …). The backward pass computes each block again, so that only
    its inputs are kept.
    """
    first = next(x for x in rows if x is not None)
    length = first.shape[-2]
    block = min(QUERY_BLOCK, length)
    number = -(-length // block)

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

    @jax.checkpoint
    def step(_: None, blocks: tuple[jax.Array | None, ...]) -> tuple[None, Any]:
        return None, function(*blocks)

    _, results = jax.lax.scan(step, None, tuple(split(x) for x in rows))
    return jax.tree.map(join, results)


def _cudnn_fits(q: jax.Array, k: jax.Array, v: jax.Array) -> bool:
    """Whether cuDNN's fused attention takes these arrays: 16-bit, one head size, 8 | d ≤ 128."""
    dims = {q.shape[-1], k.shape[-1], v.shape[-1]}
    return (
        jax.default_backend() == "gpu"
        and all(x.dtype in (jnp.bfloat16, jnp.float16) for x in (q, k, v))
        and len(dims) == 1
        and q.shape[-1] % 8 == 0
        and q.shape[-1] <= 128
    )


def _wide(dtype: jnp.dtype) -> jnp.dtype:
    """The type in which products are summed: at least float32."""
    return jnp.promote_types(dtype, jnp.float32)
