"""Each network's own view of one augmented image: its normalisation and its resolution."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.transformer.patches import check_images

Channels = tuple[float, float, float]

# Our names (PIL's) → jax.image's. All antialias when they shrink, as PIL's do; "cubic" is Keys'
# kernel with a = -0.5, as PIL's is and PyTorch's with antialias=True.
_METHODS = {"bilinear": "linear", "bicubic": "cubic", "lanczos": "lanczos3"}
_OVERSHOOT = ("bicubic", "lanczos")


class Normalisation(NamedTuple):
    """A network sees (pixel - mean) / std of pixels in [0, 1]: red, green, blue."""

    mean: Channels
    std: Channels


def teacher_view(
    images: jax.Array,
    seen: Normalisation,
    wanted: Normalisation,
    size: tuple[int, int] | None = None,
    interpolation: str = "bicubic",
) -> jax.Array:
    """Images (B, H, W, 3) normalised with `seen` → the same with `wanted`, (B, *size, 3) float32.

    size: (height, width) in pixels, None = as they are. interpolation: bilinear | bicubic |
    lanczos, antialiased: PyTorch's antialias=True but for rounding, and PIL's but for whole bytes.
    Bicubic and Lanczos resizing overshoot at edges and are cut off at pixel values 0 and 1, where
    PIL's bytes end. With nothing to change the very array comes back. ValueError names the argument
    that is wrong.
    """
    images = jnp.asarray(images)
    check_images(images)
    if interpolation not in _METHODS:
        raise ValueError(f"interpolation: {interpolation!r} is none of {', '.join(_METHODS)}")
    scale, shift, black, white = _conversion(seen, wanted)
    if (scale != 1).any() or shift.any():
        images = images.astype(jnp.float32) * scale + shift
    target = images.shape[1:3] if size is None else tuple(size)
    if images.shape[1:3] == target:
        return images
    # Weights of a resize sum to 1, so that it may come after the normalisation: one pass less.
    shape = (images.shape[0], *target, 3)
    method = _METHODS[interpolation]
    resized = jax.image.resize(
        images.astype(jnp.float32), shape, method, precision=jax.lax.Precision.HIGHEST
    )
    return jnp.clip(resized, black, white) if interpolation in _OVERSHOOT else resized


def size_for_grid(
    grid: tuple[int, int], patch_size: int, stride: int | None = None
) -> tuple[int, int]:
    """The (height, width) in pixels at which a network of this patch size sees this grid.

    stride: pixels from one patch to the next, None = patch_size.
    """
    height, width = ((n - 1) * (stride or patch_size) + patch_size for n in grid)
    return height, width


def _conversion(
    seen: Normalisation, wanted: Normalisation
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scale and shift between the two, and what pixels 0 and 1 become; each (3,) float32."""
    (seen_mean, seen_std), (mean, std) = (np.asarray(pair, np.float64) for pair in (seen, wanted))
    values = seen_std / std, (seen_mean - mean) / std, -mean / std, (1 - mean) / std
    return tuple(value.astype(np.float32) for value in values)
