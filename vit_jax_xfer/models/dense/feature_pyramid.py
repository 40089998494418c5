"""A feature pyramid network: an encoder's several maps, each told what the coarser ones see.

Source: FPN (1612.03144), with the channel norms of ViTDet's levels (2203.16527).
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.filter.convolution import Depthwise
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL
from vit_jax_xfer.models.transformer.block_design import layer_norm

_EPS = 1e-6


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
            x = self._convolve(x.astype(self.dtype), 1, f"lateral_{i}")
            if coarser is not None:
                x = x + _spread(coarser, x.shape[1:3])
            coarser = x
            if self.light:
                x = Depthwise(dtype=self.dtype, name=f"depthwise_{i}")(x)
            levels.insert(0, self._convolve(x, 1 if self.light else 3, f"output_{i}"))
        for _ in range(self.extra):
            levels.append(levels[-1][:, ::2, ::2])
        return tuple(levels)

    def _convolve(self, x: jax.Array, size: int, name: str) -> jax.Array:
        x = nn.Conv(
            self.width,
            (size, size),
            padding=size // 2,
            use_bias=False,
            kernel_init=TORCH_KERNEL,
            dtype=self.dtype,
            name=name,
        )(x)
        return layer_norm(_EPS, self.dtype, f"{name}_norm")(x)


def _spread(x: jax.Array, sides: tuple[int, int]) -> jax.Array:
    """A map repeated to twice its sides, or a cell less: (B, h, w, C) → (B, *sides, C)."""
    return x.repeat(2, axis=1).repeat(2, axis=2)[:, : sides[0], : sides[1]]
