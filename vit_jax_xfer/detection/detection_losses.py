"""Losses of boxes and of scores, each element by itself: float32, of the inputs' shape."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def binary_cross_entropy(logits: ArrayLike, targets: ArrayLike) -> jax.Array:
    """Of a logit with a target from 0 to 1."""
    logits, targets = _float(logits), _float(targets)
    return jnp.maximum(logits, 0) - logits * targets + jnp.log1p(jnp.exp(-jnp.abs(logits)))


def focal_loss(
    logits: ArrayLike, targets: ArrayLike, alpha: float = 0.25, gamma: float = 2.0
) -> jax.Array:
    """Focal loss (1708.02002): cross-entropy, less where it is right already.

    targets: 1 and 0, weighed by alpha and 1 − alpha.
    """
    logits, targets = _float(logits), _float(targets)
    p = jax.nn.sigmoid(logits)
    wrong = p * (1 - targets) + (1 - p) * targets
    weight = alpha * targets + (1 - alpha) * (1 - targets)
    return weight * wrong**gamma * binary_cross_entropy(logits, targets)


def varifocal_loss(
    logits: ArrayLike,
    quality: ArrayLike,
    positive: ArrayLike,
    alpha: float = 0.75,
    gamma: float = 2.0,
) -> jax.Array:
    """Varifocal loss (2008.13367): a positive's target and weight are its quality, 0 to 1.

    positive: 1 and 0. A negative weighs alpha · p^gamma, with no gradient through that weight.
    """
    logits, positive = _float(logits), _float(positive)
    quality = _float(quality) * positive
    p = jax.lax.stop_gradient(jax.nn.sigmoid(logits))
    weight = alpha * p**gamma * (1 - positive) + quality
    return weight * binary_cross_entropy(logits, quality)


def quality_focal_loss(logits: ArrayLike, quality: ArrayLike, beta: float = 2.0) -> jax.Array:
    """Quality focal loss (2006.04388): cross-entropy with a quality of 0 to 1, by |σ − q|^beta."""
    logits, quality = _float(logits), _float(quality)
    wrong = jnp.abs(jax.nn.sigmoid(logits) - quality)
    return wrong**beta * binary_cross_entropy(logits, quality)


def smooth_l1(error: ArrayLike, beta: float = 0.0) -> jax.Array:
    """|error|, and a parabola where that is below beta; 0 = none, the plain absolute value."""
    error = jnp.abs(_float(error))
    if beta == 0:
        return error
    return jnp.where(error < beta, error * error / (2 * beta), error - beta / 2)


def _float(x: jax.Array) -> jax.Array:
    return jnp.asarray(x).astype(jnp.float32)
