"""UPerNet (1807.10221) and what stands around it on a plain ViT: a neck, an auxiliary head."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.batch_norm import BatchNorm
from vit_jax_xfer.models.dense.segmentation_heads import (
    ConvolutionNorm,
    Maps,
    PixelClasses,
    resized_map,
    side_by_side,
)
from vit_jax_xfer.models.filter.convolution import adaptive_pool
from vit_jax_xfer.models.lifting.lift import Doubling

POOL_SIDES = (1, 2, 3, 6)


class ScaleNeck(nn.Module):
    """Maps of one size, each brought to a scale of its own: map i times 2^(finest - i).

    With four maps of stride 16 and finest=2 strides are 4, 8, 16, 32, as BEiT's and MAE's authors
    segment (2106.08254). Two doublings have batch norm and GELU between; halvings are 2×2 maxima.
    """

    finest: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Maps, train: bool = False) -> tuple[jax.Array, ...]:
        return tuple(self._scaled(x, i, train) for i, x in enumerate(maps))

    def _scaled(self, x: jax.Array, i: int, train: bool) -> jax.Array:
        for step in range(self.finest - i):
            if step:
                x = BatchNorm(dtype=self.dtype, name=f"scale_{i}_norm_{step}")(x, train)
                x = nn.gelu(x, approximate=False)
            x = Doubling(x.shape[-1], self.dtype, name=f"scale_{i}_up_{step}")(x)
        for _ in range(i - self.finest):
            x = nn.max_pool(x, (2, 2), (2, 2))
        return x


class UPerNetHead(nn.Module):
    """Pooled context on the coarsest map, a top-down pyramid, and all of it side by side."""

    num_classes: int
    width: int = 512
    dropout: float = 0.1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Maps, train: bool = False) -> jax.Array:
        def layer(x: jax.Array, name: str, size: int = 3) -> jax.Array:
            return ConvolutionNorm(self.width, size, dtype=self.dtype, name=name)(x, train)

        coarsest = maps[-1]
        context = [coarsest]
        for side in POOL_SIDES:
            pooled = layer(adaptive_pool(coarsest, (side, side)), f"pool_{side}", 1)
            context.append(resized_map(pooled, coarsest.shape[1:3]))
        merged = [layer(x, f"lateral_{i}", 1) for i, x in enumerate(maps[:-1])]
        merged.append(layer(jnp.concatenate(context, axis=-1), "context"))
        for i in range(len(maps) - 1, 0, -1):
            merged[i - 1] += resized_map(merged[i], merged[i - 1].shape[1:3])
        levels = [layer(x, f"level_{i}") for i, x in enumerate(merged[:-1])]
        x = layer(side_by_side([*levels, merged[-1]]), "fuse")
        return PixelClasses(self.num_classes, self.dropout, name="pixels")(x, train)


class FcnHead(nn.Module):
    """A 3×3 convolution with batch norm and ReLU, then classes: of one map (B, h, w, C)."""

    num_classes: int
    width: int = 256
    dropout: float = 0.1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = ConvolutionNorm(self.width, dtype=self.dtype, name="conv")(x, train)
        return PixelClasses(self.num_classes, self.dropout, name="pixels")(x, train)
