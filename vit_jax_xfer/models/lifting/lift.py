"""LiFT: a convolutional network that doubles the resolution of a frozen ViT's features.

Source: Suri et al. 2024, LiFT (2403.14625), with the arithmetic of its published code. An image
branch sees the pixels that the ViT saw; its maps join the features before and after a doubling.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import check_variables, given_array
from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.models.batch_norm import BatchNorm
from vit_jax_xfer.models.lifting.feature_doubler import FeatureDoubler
from vit_jax_xfer.models.lifting.feature_source import FeatureSource
from vit_jax_xfer.models.lifting.lift_inputs import check_doubles, check_inputs
from vit_jax_xfer.models.products import matrix_product
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL, torch_bias

_IMAGE_WIDTH = 32  # channels of the image branch, the published number for every backbone
# PyTorch counts a transposed convolution's fan-in on its outputs.
_TORCH_TRANSPOSED = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")


class LiFT(FeatureDoubler):
    """Images (B, H, W, 3) and features (B, h, w, width) → (B, 2h, 2w, width), with h = H // P.

    images: what the ViT saw, normalised. P is `patch_size`; sides need not be multiples of it.
    train=True takes the batch's statistics and moves those in `batch_stats` (see BatchNorm).
    ValueError for an image smaller than a patch, and for features of another grid, width or batch.
    """

    width: int = 384  # channels of the features
    patch_size: int = 16  # of the ViT
    dtype: Any = jnp.float32  # of activations; parameters and statistics stay float32
    source: FeatureSource | None = None  # the features it was trained on; travels along

    @nn.compact
    def __call__(self, images: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        check_whole("patch_size", self.patch_size)
        check_whole("width", self.width, 2)
        grid = check_inputs(images, features, self.patch_size, self.width)

        skip, deep = image_branch(images, grid, self.patch_size, self.dtype, train)
        x = jnp.concatenate([features.astype(self.dtype), deep], axis=-1)
        x = Doubling(x.shape[-1] // 2, self.dtype, name="up")(x)
        x = jnp.concatenate([x, skip], axis=-1)
        for name in ("merge_1", "merge_2"):
            x = ConvNorm(self.width // 2, bias=False, dtype=self.dtype, name=name)(x, train)
        return nn.Dense(
            self.width,
            kernel_init=TORCH_KERNEL,
            bias_init=torch_bias(self.width // 2),
            dtype=self.dtype,
            dot_general=matrix_product,
            name="out",
        )(x)


class ConvNorm(nn.Module):
    """A 3×3 convolution, batch norm, ReLU: (B, H, W, C) → (B, ⌈H/stride⌉, ⌈W/stride⌉, width)."""

    width: int
    stride: int = 1
    bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Conv(
            self.width,
            (3, 3),
            self.stride,
            padding=1,  # on both sides; "SAME" puts it all behind an even input
            use_bias=self.bias,
            kernel_init=TORCH_KERNEL,
            bias_init=torch_bias(9 * x.shape[-1]),
            dtype=self.dtype,
            name="conv",
        )(x)
        return nn.relu(BatchNorm(dtype=self.dtype, name="norm")(x, train))


def image_branch(
    images: jax.Array, grid: tuple[int, int], patch_size: int, dtype: Any, train: bool
) -> tuple[jax.Array, jax.Array]:
    """What the networks that double features see of images (B, H, W, 3), in maps of 32 channels.

    At twice the features' grid (h, w) and at the grid itself: (B, 2h, 2w, 32), (B, h, w, 32). Its
    layers, "image_1" to "image_3", become those of the module that calls it.
    """

    def halved(x: jax.Array, name: str) -> jax.Array:
        return ConvNorm(_IMAGE_WIDTH, stride=2, dtype=dtype, name=name)(x, train)

    skip = fit_to_grid(halved(halved(images, "image_1"), "image_2"), grid, patch_size)
    return skip, halved(skip, "image_3")


class Doubling(nn.Module):
    """A 2×2 transposed convolution of stride 2: (B, h, w, C) → (B, 2h, 2w, width).

    Outputs don't overlap, so it is one matrix product. The kernel is (2, 2, C, width): tap (a, b)
    makes the outputs at odd or even rows and columns, (2i + a, 2j + b).
    """

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, h, w, channels = x.shape
        kernel = self.param("kernel", _TORCH_TRANSPOSED, (2, 2, channels, self.width))
        bias = self.param("bias", torch_bias(4 * self.width), (self.width,))
        x = jnp.einsum("bijc,rsco->birjso", x.astype(self.dtype), kernel.astype(self.dtype))
        return x.reshape(batch, 2 * h, 2 * w, self.width) + bias.astype(self.dtype)


def fit_to_grid(x: jax.Array, grid: tuple[int, int], patch_size: int) -> jax.Array:
    """The image branch at a quarter of the image's size → at twice the features' grid, by maxima.

    Of images that are no whole number of patches, only what the patches cover is taken. At patch 8
    that changes nothing and at 16 it is a 2×2 maximum, as published; at any other it is PyTorch's
    adaptive maximum, as in the LiFT for patch 14 that LoftUp (2504.14032) compares with.
    """
    h, w = (math.ceil(n * patch_size / 4) for n in grid)
    return adaptive_max_pool(x[:, :h, :w], (2 * grid[0], 2 * grid[1]))


def adaptive_max_pool(x: jax.Array, size: Sequence[int]) -> jax.Array:
    """PyTorch's adaptive maximum pooling, up or down: (B, H, W, C) → (B, *size, C).

    Cell i of m covers places ⌊i·n/m⌋ to ⌈(i + 1)·n/m⌉ of n.
    """
    for axis, new in zip((1, 2), size, strict=True):
        old = x.shape[axis]
        if old % new == 0:
            x = x.reshape(*x.shape[:axis], new, old // new, *x.shape[axis + 1 :])
        else:
            cells = np.arange(new)
            first, end = cells * old // new, -(-(cells + 1) * old // new)
            taps = first[:, None] + np.arange((end - first).max())
            x = jnp.take(x, np.minimum(taps, end[:, None] - 1), axis=axis)
        x = x.max(axis=axis + 1)
    return x


def double(x: jax.Array) -> jax.Array:
    """Bilinear interpolation to twice the size, half-pixel centres: (B, H, W, C) → (B, 2H, 2W, C).

    Equals PyTorch's interpolate(scale_factor=2, mode="bilinear", align_corners=False).
    """
    for axis in (1, 2):
        last = x.shape[axis] - 1
        before = jnp.concatenate([_part(x, axis, 0, 1), _part(x, axis, 0, last)], axis)
        after = jnp.concatenate([_part(x, axis, 1, None), _part(x, axis, last, None)], axis)
        pair = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
        x = pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def _part(x: jax.Array, axis: int, start: int, stop: int | None) -> jax.Array:
    return jax.lax.slice_in_dim(x, start, stop, axis=axis)


def lift(
    model: nn.Module, variables: Any, images: ArrayLike, features: ArrayLike, steps: int = 2
) -> jax.Array:
    """Features (B, h, w, C) of images (B, H, W, 3), doubled `steps` times: (B, 2ⁿh, 2ⁿw, C).

    model: a LiFT, or any network with `patch_size` that takes (images, features). Each step sees
    the images at the size that goes with its features: doubled, as published, and without what
    lies a patch or more beyond the grid. ValueError for steps below 1, for a network of another
    kind, and as the model does.
    """
    check_doubles(model)
    check_variables("variables", variables)
    check_whole("steps", steps)
    images, features = given_array("images", images), given_array("features", features)
    for step in range(steps):
        if step:
            h, w = ((n + 1) * model.patch_size - 1 for n in features.shape[1:3])
            images = double(images)[:, :h, :w]
        features = model.apply(variables, images, features)
    return features
