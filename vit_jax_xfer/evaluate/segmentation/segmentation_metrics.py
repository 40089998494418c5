"""Mean intersection over union of semantic segmentation, from one confusion matrix for all images.

Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", IJCV 2015.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.arguments.array_checks import require_equal

IGNORE = 255


class SegmentationScore(NamedTuple):
    """mean_iou: over the classes that occur, in truth or prediction. accuracy: of all pixels.
    iou: (K,), NaN where a class doesn't occur. pixels: how many were scored."""

    mean_iou: float
    accuracy: float
    iou: np.ndarray
    pixels: int


def confusion_matrix(
    prediction: jax.Array, truth: jax.Array, num_classes: int, ignore: int = IGNORE
) -> jax.Array:
    """How often class i (row) was taken for class j (column): (K, K) int32, of labels (...).

    Pixels of which the truth is `ignore` don't count, whatever was predicted there. Matrices of
    batches are summed as numpy int64: some data sets have more pixels than int32 counts.
    ValueError for any other label outside 0 … K - 1.
    """
    prediction, truth = jnp.asarray(prediction), jnp.asarray(truth)
    require_equal("prediction", prediction.shape, truth.shape, "truth")
    for name, labels in (("prediction", prediction), ("truth", truth)):
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            raise ValueError(f"{name}: expected integer labels, got {labels.dtype}")
    counts, outside = _count(prediction, truth, num_classes, ignore)
    if not isinstance(outside, jax.core.Tracer):
        for name, number in zip(("prediction", "truth"), outside.tolist(), strict=True):
            if number:
                raise ValueError(
                    f"{name}: {number} labels are outside 0 to {num_classes - 1} (num_classes)"
                )
    return counts


@functools.partial(jax.jit, static_argnames=("num_classes", "ignore"))
def _count(
    prediction: jax.Array, truth: jax.Array, num_classes: int, ignore: int
) -> tuple[jax.Array, jax.Array]:
    """Counts (K, K), and how many of each one's scored labels are none of the classes."""
    scored = truth.ravel() != ignore
    # Signed and wide, or 255 of uint8 times the classes wraps around.
    pair = jnp.stack([prediction.ravel(), truth.ravel()]).astype(jnp.int32)
    outside = scored & ((pair < 0) | (pair >= num_classes))
    place = jnp.where(scored & ~outside.any(0), pair[1] * num_classes + pair[0], num_classes**2)
    counts = jnp.bincount(place, length=num_classes**2 + 1)[:-1]
    return counts.reshape(num_classes, num_classes), outside.sum(1)


def segmentation_score(confusion: np.ndarray) -> SegmentationScore:
    """The figures of a confusion matrix (K, K); NaN means where nothing was scored."""
    confusion = np.asarray(confusion, np.int64)
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1]:
        raise ValueError(f"confusion: expected (K, K), got shape {confusion.shape}")
    correct, pixels = confusion.diagonal(), int(confusion.sum())
    union = confusion.sum(0) + confusion.sum(1) - correct
    iou = np.divide(correct, union, out=np.full(len(union), np.nan), where=union > 0)
    if not pixels:
        return SegmentationScore(float("nan"), float("nan"), iou, 0)
    return SegmentationScore(float(np.nanmean(iou)), correct.sum() / pixels, iou, pixels)
