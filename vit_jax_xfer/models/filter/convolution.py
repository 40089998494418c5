"""Convolutions of mobile networks, written so that every backend runs them fast.

XLA's CPU backend runs grouped convolutions much slower than the same work as shifted multiply-adds,
so there a depthwise convolution is one of those; a 1×1 convolution is a matrix product everywhere.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.batch_norm import BatchNorm
from vit_jax_xfer.models.devices import platform
from vit_jax_xfer.models.products import matrix_product
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL, torch_bias


# Under its own name in a jaxpr, by which multiply_adds.py knows it.
@functools.partial(jax.jit, static_argnums=(2, 3, 4))
def shifted_sum(
    x: jax.Array, kernel: jax.Array, stride: int, dilation: int, padding: int
) -> jax.Array:
    """Σ over taps of shifted x · kernel[tap]: x (B, H, W, C), kernel (k, k, C) → (B, h, w, C)."""
    size = kernel.shape[0]
    reach = dilation * (size - 1) + 1
    height, width = ((n + 2 * padding - reach) // stride + 1 for n in x.shape[1:3])
    padded = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    # Without a barrier XLA reads the middle tap from x itself, and computes an activation before it
    # once for the padded map and once more for that tap.
    padded = jax.lax.optimization_barrier(padded)
    total = None
    for row in range(size):
        for column in range(size):
            top, left = row * dilation, column * dilation
            tap = padded[
                :,
                top : top + stride * (height - 1) + 1 : stride,
                left : left + stride * (width - 1) + 1 : stride,
            ]
            term = tap * kernel[row, column]
            total = term if total is None else total + term
    return total


class Depthwise(nn.Module):
    """A 3×3 convolution of each channel alone: (B, H, W, C) → (B, ⌈H/stride⌉, ⌈W/stride⌉, C)."""

    stride: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        # Of fan-in 9: flax counts (k, k, 1, C).
        kernel = self.param("kernel", TORCH_KERNEL, (3, 3, 1, width)).astype(self.dtype)
        x = x.astype(self.dtype)
        if platform() == "cpu":
            return shifted_sum(x, kernel[:, :, 0], self.stride, 1, 1)
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (self.stride, self.stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=width,
        )


class InvertedResidual(nn.Module):
    """MobileNetV2's block (1801.04381): widen by `expand`, convolve depthwise, project.

    (B, H, W, C) → (B, ⌈H/stride⌉, ⌈W/stride⌉, width); adds its input where shapes allow.
    """

    width: int
    stride: int = 1
    expand: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        hidden = x.shape[-1] * self.expand
        y = x
        if self.expand != 1:
            y = self._pointwise(hidden, "widen")(y)
            y = self.activate(BatchNorm(dtype=self.dtype, name="widen_norm")(y, train))
        y = Depthwise(self.stride, self.dtype, name="depthwise")(y)
        y = self.activate(BatchNorm(dtype=self.dtype, name="depthwise_norm")(y, train))
        y = self._pointwise(self.width, "project")(y)
        y = BatchNorm(dtype=self.dtype, name="project_norm")(y, train)
        return x + y if y.shape == x.shape and self.stride == 1 else y

    def activate(self, x: jax.Array) -> jax.Array:
        """The activation; a method, which an onlooker can replace (collections.py)."""
        return nn.silu(x)

    def _pointwise(self, width: int, name: str) -> nn.Dense:
        return nn.Dense(
            width,
            use_bias=False,
            kernel_init=TORCH_KERNEL,
            dtype=self.dtype,
            dot_general=matrix_product,
            name=name,
        )


class Stem(nn.Module):
    """A 5×5 convolution without padding, batch norm, leaky ReLU: images → features."""

    width: int
    stride: int = 2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        fan_in = 25 * images.shape[-1]
        x = nn.Conv(
            self.width,
            (5, 5),
            self.stride,
            padding="VALID",
            kernel_init=TORCH_KERNEL,
            bias_init=torch_bias(fan_in),
            dtype=self.dtype,
            name="conv",
        )(images)
        return self.activate(BatchNorm(dtype=self.dtype, name="norm")(x, train))

    def activate(self, x: jax.Array) -> jax.Array:
        """The activation; a method, which an onlooker can replace (collections.py)."""
        return nn.leaky_relu(x, 0.1)


@functools.partial(jax.jit, static_argnums=1)  # under its own name, as shifted_sum
def adaptive_pool(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """PyTorch's adaptive average pooling, up or down: (B, H, W, C) → (B, *size, C)."""
    if x.shape[1:3] == size:
        return x
    rows, columns = (
        jnp.asarray(_pool_weights(n, m), x.dtype) for n, m in zip(x.shape[1:3], size, strict=True)
    )

    # Products that leave the channels last, so that nothing is transposed; the smaller map between.
    def along_rows(x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        pooled = rows @ x.reshape(batch, height, width * channels)
        return pooled.reshape(batch, size[0], width, channels)

    if size[0] < x.shape[1]:
        return columns @ along_rows(x)
    return along_rows(columns @ x)


def _pool_weights(old: int, new: int) -> np.ndarray:
    """The averaging matrix (new, old): cell i covers ⌊i·old/new⌋ to ⌈(i + 1)·old/new⌉."""
    cells, places = np.arange(old), np.arange(new)[:, None]
    inside = (cells >= places * old // new) & (cells < -(-(places + 1) * old // new))
    return inside / inside.sum(axis=1, keepdims=True)
