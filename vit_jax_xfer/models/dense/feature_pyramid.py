"""A feature pyramid network: an encoder's several maps, each told what the coarser ones see.

Source: FPN (1612.03144), with the channel norms of ViTDet's levels (2203.16527).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.dense.simple_pyramid import normed_convolution
from vit_jax_xfer.models.filter.convolution import Depthwise


class FeaturePyramid(nn.Module):
    """Maps (B, h, w, ·), fine to coarse → as many of `width` channels, and `extra` coarser ones.

    Each is a 1×1 convolution of its own map plus the coarser level, repeated to its sides, then a
    3×3 one; a norm after each. light: the 3×3 ones see a channel at a time, as a small encoder
    affords them. An extra level is every second cell of the one before.
    """

    width: int = 256
    extra: int = 1
    light: bool = False
    dtype: Any = jnp.float32

    @nn.nowrap
    def strides_of(self, strides: tuple[int, ...]) -> tuple[int, ...]:
        """Of the levels, for maps of these strides."""
        return (*strides, *(strides[-1] * 2 ** (i + 1) for i in range(self.extra)))

    @nn.compact
    def __call__(self, maps: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        levels: list[jax.Array] = []
        coarser = None
        for i, x in reversed(list(enumerate(maps))):
            x = normed_convolution(x.astype(self.dtype), self.width, 1, self.dtype, f"lateral_{i}")
            if coarser is not None:
                x = x + _spread(coarser, x.shape[1:3])
            coarser = x
            if self.light:
                x = Depthwise(dtype=self.dtype, name=f"depthwise_{i}")(x)
            size = 1 if self.light else 3
            x = normed_convolution(x, self.width, size, self.dtype, f"output_{i}")
            levels.insert(0, x)
        for _ in range(self.extra):
            levels.append(levels[-1][:, ::2, ::2])
        return tuple(levels)


def _spread(x: jax.Array, sides: tuple[int, int]) -> jax.Array:
    """A map repeated to twice its sides, or a cell less: (B, h, w, C) → (B, *sides, C)."""
    return x.repeat(2, axis=1).repeat(2, axis=2)[:, : sides[0], : sides[1]]
