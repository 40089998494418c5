"""Images cut into patches: the first layer of a transformer, and the targets of masked training."""

from collections.abc import Iterable
from numbers import Integral
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.products import product
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL
from vit_jax_xfer.models.transformer.positions import resize_weights

ImageSize = int | tuple[int, int]  # pixels of both sides, or (height, width)


def patchify(images: jax.Array, patch_size: int) -> jax.Array:
    """Images (B, h·p, w·p, c) → patches (B, h·w, p·p·c), pixels row by row, channels last.

    Rows and columns beyond whole patches are left out.
    """
    batch, height, width, channels = images.shape
    h, w = height // patch_size, width // patch_size
    x = images[:, : h * patch_size, : w * patch_size].reshape(
        batch, h, patch_size, w, patch_size, channels
    )
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, h * w, patch_size**2 * channels)


def unpatchify(patches: jax.Array, patch_size: int, grid: tuple[int, int]) -> jax.Array:
    """Patches (B, h·w, p·p·c) on the grid (h, w) → images (B, h·p, w·p, c)."""
    h, w = grid
    x = patches.reshape(patches.shape[0], h, w, patch_size, patch_size, -1)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], h * patch_size, w * patch_size, -1)


def sides_of(image_size: ImageSize) -> tuple[int, int]:
    """(height, width) of an image size in pixels. ValueError unless it is one."""
    sides = tuple(image_size) if isinstance(image_size, Iterable) else (image_size, image_size)
    if len(sides) != 2 or not all(isinstance(side, Integral) for side in sides):
        raise ValueError(f"image_size: got {image_size!r}, expected pixels or (height, width)")
    return sides


def grid_of(
    image_size: ImageSize, patch_size: int, stride: int | None = None, drop_remainder: bool = False
) -> tuple[int, int]:
    """How many patches (down, across) an image of this size has. ValueError unless they fit.

    stride: pixels from one patch to the next, None = patch_size. Overlapping patches need not reach
    the last rows and columns: there are 1 + (side − patch_size) // stride.
    drop_remainder: others need not either, as a convolution without padding leaves these out.
    """
    height, width = sides_of(image_size)
    if stride not in (None, patch_size) or drop_remainder:
        stride = stride or patch_size
        if min(height, width) < patch_size:
            raise ValueError(
                f"image_size: {height}×{width} pixels are smaller than one {patch_size}-pixel patch"
            )
        return 1 + (height - patch_size) // stride, 1 + (width - patch_size) // stride
    if height % patch_size or width % patch_size or min(height, width) < patch_size:
        raise ValueError(
            f"image_size: {height}×{width} pixels are not a whole number of "
            f"{patch_size}-pixel patches each way"
        )
    return height // patch_size, width // patch_size


def check_images(images: jax.Array, channels: int = 3) -> None:
    """ValueError unless images are (B, H, W, channels) of floating point, as prepared ones are."""
    if images.ndim != 4 or images.shape[-1] != channels:
        raise ValueError(f"images: expected shape (B, H, W, {channels}), got {tuple(images.shape)}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            f"images: expected floating point, prepared for the network (vjx.preprocess); got "
            f"{images.dtype}"
        )


def for_channels(kernel: Any, channels: int) -> Any:
    """A patch embedding's kernel (p, p, c, width) for images of another number of channels.

    As timm does it: for one channel the sum over all, so that a grey image counts as one of equal
    channels; else those of RGB in turn, times 3 / channels. ValueError where c is not 3 then.
    """
    stored = kernel.shape[2]
    if channels == stored:
        return kernel
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    if stored != 3 or channels < 1:
        raise ValueError(
            f"in_channels: got {channels}, but the weights have {stored}; those of RGB go to any "
            "number of channels, others only to 1"
        )
    return kernel[:, :, [i % 3 for i in range(channels)]] * (3 / channels)


def for_patches(kernel: jax.Array | np.ndarray, size: int) -> jax.Array:
    """A patch embedding's kernel (p, p, c, width) for patches of another size, float32.

    By the pseudo-inverse of resizing (FlexiViT, 2212.08013): an image enlarged with its patches
    becomes the same tokens.
    """
    old = kernel.shape[0]
    enlarge = resize_weights(old, size, size / old, antialias=True)
    fit = np.linalg.pinv(enlarge.T.astype(np.float64)).astype(np.float32)
    exact = jax.lax.Precision.HIGHEST
    return jnp.einsum("ip,jq,pqcw->ijcw", fit, fit, jnp.asarray(kernel), precision=exact)


class PatchEmbed(nn.Module):
    """A linear layer on each patch: images (B, h·p, w·p, c) → tokens (B, h·w, width).

    The kernel has a convolution's layout (p, p, c, width). Where patches do not overlap, one matrix
    product does the convolution's work and every backend runs that fast. With a `stride` below
    patch_size they overlap (2112.05814), on the same kernel.
    """

    width: int
    patch_size: int
    bias: bool = True
    kernel_init: str = "torch_conv"
    dtype: Any = jnp.float32
    stride: int | None = None

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        p, channels = self.patch_size, images.shape[-1]
        kernel = self.param(
            "kernel", _INITS[self.kernel_init], (p, p, channels, self.width), jnp.float32
        )
        images, kernel = images.astype(self.dtype), kernel.astype(self.dtype)
        if self.stride in (None, p):
            tokens = product(patchify(images, p), kernel.reshape(p * p * channels, self.width))
        else:
            cells = jax.lax.conv_general_dilated(
                images,
                kernel,
                (self.stride, self.stride),
                "VALID",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            # Not len(images), which is no number where any number of images is exported.
            tokens = cells.reshape(cells.shape[0], -1, self.width)
        if not self.bias:
            return tokens
        bias = self.param("bias", nn.initializers.zeros, (self.width,), jnp.float32)
        return tokens + bias.astype(self.dtype)


def _xavier_flat(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Glorot uniform over the flattened (inputs, outputs) matrix, as MAE draws it."""
    flat = (shape[0] * shape[1] * shape[2], shape[3])
    return nn.initializers.xavier_uniform()(key, flat, dtype).reshape(shape)


_INITS: dict[str, Any] = {
    # what timm and the published students keep
    "torch_conv": TORCH_KERNEL,
    "xavier_uniform": _xavier_flat,
}
