"""How well masks fit: overlap of regions (J) and of contours (F), by DAVIS's definitions.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation",
CVPR 2016; the details are those of davis2017-evaluation. Conventions of sequences: davis.py.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from vit_jax_xfer.arguments.array_checks import require_equal

TOLERANCE = 0.008


def region_similarity(prediction: jax.Array, truth: jax.Array) -> jax.Array:
    """J, intersection over union of masks (..., H, W) bool → (...) float32; 1 where both are empty.

    Pixels that don't count are left out by clearing them in both masks.
    """
    prediction, truth = _masks(prediction, truth)
    intersection = (prediction & truth).sum((-2, -1))
    union = (prediction | truth).sum((-2, -1))
    return jnp.where(union == 0, 1.0, intersection / jnp.maximum(union, 1))


def contour_accuracy(
    prediction: jax.Array, truth: jax.Array, tolerance: float = TOLERANCE
) -> jax.Array:
    """F, the harmonic mean of the contours' precision and recall, of masks (..., H, W) → (...).

    A contour pixel is matched when the other contour is at most the tolerance away: a fraction of
    the image's diagonal, rounded up to pixels, or pixels from 1 on. Without any contour (both masks
    empty, or full) it is 1; where one mask alone has a contour, 0.
    """
    prediction, truth = _masks(prediction, truth)
    if not tolerance > 0:
        raise ValueError(f"tolerance: expected more than 0, got {tolerance}")
    size = prediction.shape[-2:]
    pixels = tolerance if tolerance >= 1 else math.ceil(tolerance * math.hypot(*size))
    pairs = jnp.stack([prediction, truth], -3).reshape(-1, 2, *size)
    return _contour_accuracy(pairs, float(pixels)).reshape(prediction.shape[:-2])


def boundary_map(masks: jax.Array) -> jax.Array:
    """The contour pixels of masks (..., H, W) bool: those unlike their east, south or south-east.

    In the last row only the east counts, in the last column the south, in the corner nothing.
    """
    east, south = masks[..., :, :-1] != masks[..., :, 1:], masks[..., :-1, :] != masks[..., 1:, :]
    corner = masks[..., :-1, :-1] != masks[..., 1:, 1:]
    inner = east[..., :-1, :] | south[..., :, :-1] | corner
    result = jnp.zeros(masks.shape, bool).at[..., :-1, :-1].set(inner)
    return result.at[..., -1, :-1].set(east[..., -1, :]).at[..., :-1, -1].set(south[..., :, -1])


def dilate(mask: jax.Array, radius: float) -> jax.Array:
    """Where a pixel of the mask (H, W) bool is at most `radius` pixels away."""
    height, width = mask.shape
    reach = math.floor(radius)
    # Sums along the rows say of any run of pixels whether it holds one of the mask.
    padded = jnp.pad(mask, ((reach, reach), (reach + 1, reach)))
    sums = jnp.cumsum(padded.astype(jnp.int32), axis=1)
    result = jnp.zeros(mask.shape, bool)
    for dy in range(-reach, reach + 1):
        half = math.isqrt(math.floor(radius**2 - dy**2))
        row = sums[reach + dy : reach + dy + height]
        end, start = reach + 1 + half, reach - half
        result |= row[:, end : end + width] > row[:, start : start + width]
    return result


@functools.partial(jax.jit, static_argnames="radius")
def _contour_accuracy(pairs: jax.Array, radius: float) -> jax.Array:
    """F of (n, 2, H, W): one pair at a time, so that memory doesn't grow with them."""

    def accuracy(pair: jax.Array) -> jax.Array:
        prediction, truth = boundary_map(pair)
        matched = (
            (prediction & dilate(truth, radius)).sum(),
            (truth & dilate(prediction, radius)).sum(),
        )
        found, there = prediction.sum(), truth.sum()
        precision, recall = matched[0] / jnp.maximum(found, 1), matched[1] / jnp.maximum(there, 1)
        mean = 2 * precision * recall / jnp.maximum(precision + recall, 1e-30)
        return jnp.where((found == 0) & (there == 0), 1.0, mean)

    return lax.map(accuracy, pairs)


def _masks(prediction: jax.Array, truth: jax.Array) -> tuple[jax.Array, jax.Array]:
    prediction, truth = jnp.asarray(prediction), jnp.asarray(truth)
    for name, masks in (("prediction", prediction), ("truth", truth)):
        if masks.ndim < 2 or masks.dtype != bool:
            raise ValueError(f"{name}: expected bool (..., H, W), got {masks.dtype} {masks.shape}")
    require_equal("prediction", prediction.shape, truth.shape, "truth")
    return prediction, truth
