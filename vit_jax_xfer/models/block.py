"""A pre-norm transformer block whose attention can be watched and replaced.

Source: Vaswani et al. 2017 (1706.03762), in the pre-norm form of ViT (2010.11929).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models import collections, kernels

KERNEL_INITS: dict[str, Any] = {
    # timm, DeiT, and the students of attention transfer.
    "truncated_normal": nn.initializers.truncated_normal(0.02),
    # MAE's pre-training; flax hands the flattened (inputs, outputs) shape to the initialiser.
    "xavier_uniform": nn.initializers.xavier_uniform(),
}


class Attention(nn.Module):
    """Multi-head self-attention on tokens (B, T, C) → (B, T, C).

    Emits `attention/map` and `qkv/{q,k,v}`; takes `given/{map,q,k,v,heads}` (see collections.py).
    """

    num_heads: int
    kernel_init: str = "truncated_normal"
    dtype: Any = jnp.float32
    implementation: str = "auto"
    blockwise_above: int = 1024

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        width = tokens.shape[-1]
        init = KERNEL_INITS[self.kernel_init]
        qkv = nn.DenseGeneral(
            (3, self.num_heads, width // self.num_heads),
            kernel_init=init,
            dtype=self.dtype,
            name="qkv",
        )(tokens)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        collections.emit(self, "qkv", q=q, k=k, v=v)
        out = self._attend(q, k, v)
        return nn.DenseGeneral(
            width, axis=(-2, -1), kernel_init=init, dtype=self.dtype, name="proj"
        )(out)

    def _attend(self, q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        given = collections.given(self, ("map", "q", "k", "v", "heads"))
        heads = given.pop("heads", None)
        per_head = None if heads is None else heads[:, None]
        q = _replace(q, given.get("q"), per_head)
        k = _replace(k, given.get("k"), per_head)
        v = _replace(v, given.get("v"), per_head)
        if "map" not in given and not collections.wanted(self, "attention"):
            return kernels.dot_product_attention(
                q, k, v, implementation=self.implementation, blockwise_above=self.blockwise_above
            )
        if "map" in given and heads is None:
            weights = given["map"]
        else:
            per_map = None if heads is None else heads[:, None, None]
            weights = _replace(kernels.attention_map(q, k), given.get("map"), per_map)
        collections.emit(self, "attention", map=weights)
        return kernels.apply_map(weights, v)


class Mlp(nn.Module):
    """Two dense layers with an exact GELU between them: (…, C) → (…, C)."""

    hidden: int
    kernel_init: str = "truncated_normal"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        init = KERNEL_INITS[self.kernel_init]
        x = nn.Dense(self.hidden, kernel_init=init, dtype=self.dtype, name="fc1")(x)
        x = nn.gelu(x, approximate=False)
        return nn.Dense(width, kernel_init=init, dtype=self.dtype, name="fc2")(x)


class Block(nn.Module):
    """Attention and MLP, each behind a norm, on tokens (B, T, C) → (B, T, C).

    keep: (2, B) factors of stochastic depth for the two branches, None to keep both whole.
    """

    num_heads: int
    mlp_dim: int
    norm_eps: float = 1e-6
    kernel_init: str = "truncated_normal"
    dtype: Any = jnp.float32
    implementation: str = "auto"
    blockwise_above: int = 1024

    @nn.compact
    def __call__(self, tokens: jax.Array, keep: jax.Array | None = None) -> jax.Array:
        branch = Attention(
            self.num_heads,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            implementation=self.implementation,
            blockwise_above=self.blockwise_above,
            name="attention",
        )(layer_norm(self.norm_eps, self.dtype, "norm1")(tokens))
        tokens = tokens + _scale_branch(branch, keep, 0)
        branch = Mlp(self.mlp_dim, self.kernel_init, self.dtype, name="mlp")(
            layer_norm(self.norm_eps, self.dtype, "norm2")(tokens)
        )
        tokens = tokens + _scale_branch(branch, keep, 1)
        collections.emit(self, "residual", stream=tokens)
        return tokens


def layer_norm(eps: float, dtype: Any, name: str | None = None) -> nn.LayerNorm:
    """LayerNorm with float32 statistics and a two-pass variance, as PyTorch computes it."""
    return nn.LayerNorm(epsilon=eps, dtype=dtype, use_fast_variance=False, name=name)


def _replace(own: jax.Array, other: jax.Array | None, mask: jax.Array | None) -> jax.Array:
    """`other` where the mask is true; all of it without a mask; `own` where there is no other."""
    if other is None:
        return own
    other = other.astype(own.dtype)
    return other if mask is None else jnp.where(mask, other, own)


def _scale_branch(branch: jax.Array, keep: jax.Array | None, index: int) -> jax.Array:
    if keep is None:
        return branch
    return branch * keep[index].astype(branch.dtype)[:, None, None]
