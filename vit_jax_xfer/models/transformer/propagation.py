"""Convolutions that carry information across windows: ViTDet's other way (2203.16527)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.same_convolution import same_convolution
from vit_jax_xfer.models.transformer.block_design import ACTIVATIONS, layer_norm

_KAIMING = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_EPS = 1e-6


class Propagation(nn.Module):
    """A residual bottleneck on the grid: tokens (B, h·w, C) → (B, h·w, C).

    1×1 to half the channels, 3×3, 1×1 back, a norm after each and an activation between. The last
    norm's scale is zero at first, so that it begins as nothing.
    """

    activation: str = "gelu"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, grid: tuple[int, int]) -> jax.Array:
        batch, _, width = tokens.shape
        x = tokens.reshape(batch, *grid, width)
        for i, (channels, size) in enumerate(((width // 2, 1), (width // 2, 3), (width, 1)), 1):
            x = same_convolution(
                channels,
                size,
                use_bias=False,
                kernel_init=_KAIMING,
                dtype=self.dtype,
                name=f"conv_{i}",
            )(x)
            if i < 3:
                x = self.activate(layer_norm(_EPS, self.dtype, f"norm_{i}")(x))
        x = layer_norm(_EPS, self.dtype, "norm_3", nn.initializers.zeros)(x)
        return tokens + x.reshape(tokens.shape)

    def activate(self, x: jax.Array) -> jax.Array:
        """The activation; a method, which an onlooker can replace (collections.py)."""
        return ACTIVATIONS[self.activation](x)
