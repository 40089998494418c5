"""Attention pooling: one learned query looks at all tokens (MAP head, 2106.04560; SigLIP)."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models import collections
from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.attention.self_attention import QueryKeyValue
from vit_jax_xfer.models.transformer.block_design import KERNEL_INITS, BlockDesign, layer_norm
from vit_jax_xfer.models.transformer.mlp import Mlp


class AttentionPool(nn.Module):
    """Tokens (B, T, C) → (B, C): attention with a probe as query, then an MLP around a residual.

    Emits `attention/map` (B, H, 1, T).
    """

    design: BlockDesign

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        design = dataclasses.replace(self.design, mlp="plain", mlp_norm=False)
        batch, _, width = tokens.shape
        probe = self.param("probe", nn.initializers.truncated_normal(0.02), (1, 1, width))
        probe = jnp.repeat(probe.astype(design.dtype), batch, axis=0)
        project = QueryKeyValue(
            design.num_heads, "full", design.kernel_init, design.dtype, name="qkv"
        )
        q, (_, k, v) = project(probe)[0], project(tokens)
        weights = self.attention_map(q, k)
        collections.emit(self, "attention", map=weights)
        pooled = self.apply_map(weights, v)
        init = KERNEL_INITS[design.kernel_init]
        pooled = nn.DenseGeneral(
            width, axis=(-2, -1), kernel_init=init, dtype=design.dtype, name="proj"
        )(pooled)
        normed = layer_norm(design.norm_eps, design.dtype, "norm")(pooled)
        return self.add(pooled, Mlp(design, name="mlp")(normed))[:, 0]

    # As methods, which an onlooker can replace (collections.py).

    def attention_map(self, q: jax.Array, k: jax.Array, bias: None = None) -> jax.Array:
        """How the probe looks at the tokens, (B, H, 1, T) float32."""
        return kernels.attention_map(q, k, bias)

    def apply_map(self, weights: jax.Array, v: jax.Array) -> jax.Array:
        """What the map takes of the values, (B, 1, H, d)."""
        return kernels.apply_map(weights, v)

    def add(self, tokens: jax.Array, branch: jax.Array) -> jax.Array:
        """The residual connection."""
        return tokens + branch
