"""Heads of semantic segmentation that are light: linear, Segmenter's masks, SETR's upsampling.

Each takes a tuple of maps (B, h, w, C), fine to coarse, and gives logits (B, h', w', K) float32 on
a grid of its own; `segmentation_network.py` brings them to the image's size.
"""

import functools
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.batch_norm import BatchNorm
from vit_jax_xfer.models.products import matrix_product
from vit_jax_xfer.models.same_convolution import same_convolution
from vit_jax_xfer.models.transformer.block_design import BlockDesign, layer_norm
from vit_jax_xfer.models.transformer.stack import make_blocks, run_blocks

Maps = Sequence[jax.Array]

# Published classifiers of pixels begin from these: DINOv3's head, mmsegmentation's.
_CLASSIFIER_STD = 0.01


@functools.partial(jax.jit, static_argnums=1)  # under its own name, for multiply_adds.py
def resized_map(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Bilinear, half-pixel centres, no antialiasing: (B, h, w, C) → (B, *size, C)."""
    if x.shape[1:3] == tuple(size):
        return x
    return jax.image.resize(x, (x.shape[0], *size, x.shape[3]), "bilinear", antialias=False)


def side_by_side(maps: Maps) -> jax.Array:
    """Maps at the size of the first, their channels one after the other."""
    return jnp.concatenate([resized_map(x, maps[0].shape[1:3]) for x in maps], axis=-1)


class PixelClasses(nn.Module):
    """Whole channels dropped, then a linear layer: (B, h, w, C) → logits (B, h, w, K) float32."""

    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = dropped_channels(x, self.dropout, train)
        init = nn.initializers.normal(_CLASSIFIER_STD)
        dtype = jnp.promote_types(jnp.float32, x.dtype)
        fields = {"kernel_init": init, "dtype": dtype, "dot_general": matrix_product}
        return nn.Dense(self.num_classes, name="classify", **fields)(x)


def dropped_channels(x: jax.Array, rate: float, train: bool) -> jax.Array:
    """Channels of maps (B, h, w, C) dropped whole at a rate while training."""
    return nn.Dropout(rate, broadcast_dims=(1, 2), deterministic=not train)(x)


class ConvolutionNorm(nn.Module):
    """A convolution that keeps the size, batch norm, ReLU: (B, h, w, C) → (B, h, w, width)."""

    width: int
    kernel_size: int = 3
    bias: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = same_convolution(
            self.width,
            self.kernel_size,
            use_bias=self.bias,
            kernel_init=nn.initializers.he_normal(),
            dtype=self.dtype,
            name="conv",
        )(x)
        return nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train))


class LinearHead(nn.Module):
    """Batch norm and a linear layer on all maps' channels at the first one's size.

    As DINOv2's authors probe (2304.07193), and with `dropout` of whole channels as DINOv3's.
    """

    num_classes: int
    dropout: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Maps, train: bool = False) -> jax.Array:
        x = dropped_channels(side_by_side(maps), self.dropout, train)
        x = BatchNorm(dtype=self.dtype, name="norm")(x, train)
        return PixelClasses(self.num_classes, name="pixels")(x)


class SegmenterHead(nn.Module):
    """Segmenter's mask transformer (2105.05633): classes are tokens beside the last map's cells.

    depth: blocks, of the encoder's width and heads. A cell's logits are its products with the
    classes, both of length 1, normalised over the classes.
    """

    num_classes: int
    num_heads: int
    depth: int = 2
    norm_eps: float = 1e-5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Maps, train: bool = False) -> jax.Array:
        batch, h, w, width = maps[-1].shape
        cells = maps[-1].reshape(batch, h * w, width)
        cells = nn.Dense(width, kernel_init=_SMALL, dtype=self.dtype, name="embed")(cells)
        shape = (1, self.num_classes, width)
        classes = self.param("class_tokens", _SMALL, shape).astype(self.dtype)
        classes = jnp.broadcast_to(classes, (batch, *shape[1:]))
        tokens = jnp.concatenate([cells, classes], axis=1)
        design = BlockDesign(self.num_heads, 4 * width, self.norm_eps, dtype=self.dtype)
        blocks = _Blocks(design, self.depth, name="decoder")
        tokens = layer_norm(self.norm_eps, self.dtype, "norm")(blocks(tokens))

        def projected(x: jax.Array, name: str) -> jax.Array:
            init = nn.initializers.normal(width**-0.5)
            x = nn.Dense(width, use_bias=False, kernel_init=init, dtype=self.dtype, name=name)(x)
            x = x.astype(jnp.promote_types(jnp.float32, self.dtype))
            return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

        cells = projected(tokens[:, : h * w], "project_cells")
        classes = projected(tokens[:, h * w :], "project_classes")
        masks = jnp.einsum("bnc,bkc->bnk", cells, classes)
        masks = layer_norm(self.norm_eps, masks.dtype, "mask_norm")(masks)
        return masks.reshape(batch, h, w, self.num_classes)


_SMALL = nn.initializers.truncated_normal(0.02)


class _Blocks(nn.Module):
    """Plain blocks under names of their own."""

    design: BlockDesign
    depth: int

    def setup(self) -> None:
        self.blocks = make_blocks(self.depth, self.design, scan=False, remat="none")

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return run_blocks(self.blocks, tokens, self.depth)


class SetrHead(nn.Module):
    """SETR's progressive upsampling (2012.15840) of the last map.

    A norm, and for each of `scales` a 3×3 convolution with batch norm and ReLU and so much
    bilinear upsampling; the classes are told apart before the last one.
    """

    num_classes: int
    width: int = 256
    scales: tuple[int, ...] = (2, 2, 2, 2)
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, maps: Maps, train: bool = False) -> jax.Array:
        x = layer_norm(1e-6, self.dtype, "norm")(maps[-1])
        for i, scale in enumerate(self.scales):
            x = ConvolutionNorm(self.width, bias=True, dtype=self.dtype, name=f"up_{i}")(x, train)
            if i == len(self.scales) - 1:
                x = PixelClasses(self.num_classes, name="pixels")(x)
            x = resized_map(x, (scale * x.shape[1], scale * x.shape[2]))
        return x
