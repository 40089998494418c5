"""The simple feature pyramid: maps of several strides from the one map of a plain transformer.

Source: ViTDet (2203.16527). All levels are made in parallel from the last map, by transposed
convolutions and pooling; nothing is passed between them.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.lifting.lift import Doubling
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL
from vit_jax_xfer.models.same_convolution import same_convolution
from vit_jax_xfer.models.transformer.block_design import layer_norm

LEVELS = 4  # levels that are made from the map; one more is the last of them, subsampled
_EPS = 1e-6


class SimplePyramid(nn.Module):
    """A map (B, h, w, C) → five maps of `width` channels, from stride 4 to 64: p2 to p6.

    in_stride: of the map, in pixels: 16, or 8 after LiFT. Another one, such as 14, gives the
    strides of `pyramid_strides`. p6 is every second cell of p5.
    """

    width: int = 256
    in_stride: int = 16
    dtype: Any = jnp.float32

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels from one cell to the next, for each level."""
        return pyramid_strides(self.in_stride)

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, ...]:
        levels = []
        for i, stride in enumerate(self.strides[:LEVELS]):
            level = PyramidLevel(self.width, self.in_stride / stride, self.dtype, name=f"p{i + 2}")
            levels.append(level(x))
        return (*levels, levels[-1][:, ::2, ::2])


def pyramid_strides(in_stride: int) -> tuple[int, ...]:
    """The five strides of a pyramid from a map of this one: doubling, from 4 to 7 pixels on."""
    first = in_stride
    while first >= 8 and first % 2 == 0:
        first //= 2
    return tuple(first * 2**i for i in range(LEVELS + 1))


class PyramidLevel(nn.Module):
    """One level: a map (B, h, w, C) → (B, h · scale, w · scale, width).

    scale: a power of two. Above 1, transposed convolutions double the map and halve its channels,
    with norm and GELU between them; below 1 it is the maximum of cells, of whole windows alone.
    """

    width: int
    scale: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.astype(self.dtype)
        doublings = max(0, round(math.log2(self.scale)))
        if x.shape[-1] % 2**doublings:
            raise ValueError(
                f"width: {x.shape[-1]} channels can't be halved {doublings} times for the pyramid"
            )
        for i in range(doublings):
            if i:
                x = layer_norm(_EPS, self.dtype, f"up_norm_{i}")(x)
                x = nn.gelu(x, approximate=False)
            x = Doubling(x.shape[-1] // 2, self.dtype, name=f"up_{i + 1}")(x)
        if self.scale < 1:
            window = (round(1 / self.scale),) * 2
            x = nn.max_pool(x, window, window)
        x = normed_convolution(x, self.width, 1, self.dtype, "lateral")
        return normed_convolution(x, self.width, 3, self.dtype, "output")


def normed_convolution(x: jax.Array, width: int, size: int, dtype: Any, name: str) -> jax.Array:
    """A convolution without bias that keeps the sides, and a norm: (B, h, w, ·) → (B, h, w, width).

    Of the module that is being called; parameters are under `name` and `name`_norm.
    """
    x = same_convolution(
        width,
        size,
        use_bias=False,
        kernel_init=TORCH_KERNEL,
        dtype=dtype,
        name=name,
    )(x)
    return layer_norm(_EPS, dtype, f"{name}_norm")(x)
