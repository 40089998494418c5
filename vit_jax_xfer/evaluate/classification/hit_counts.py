"""Top-1, top-5 and loss of classification, and what counts as a hit.

A target is a class, (B,) integers, or a distribution over classes, (B, K) floats that add up to 1,
as mixing of images makes it.
"""

import jax
import jax.numpy as jnp


def classification_sums(
    logits: jax.Array, targets: jax.Array, mask: jax.Array, scored: jax.Array | None = None
) -> dict[str, jax.Array]:
    """Sums of loss, top-1 and top-5 hits over the real images of a batch (see Task.evaluate).

    logits (B, K); targets (B,) or (B, K); mask (B,) bool, false on padding. scored: (K,) bool, the
    classes that take part, as if the network had no others; None = all. See `hits` for ties.
    """
    logits = logits.astype(jnp.float32)
    if scored is not None:
        logits = jnp.where(scored, logits, -jnp.inf)
    sums = {"loss": cross_entropy(logits, targets), "top1": hits(logits, targets, 1)}
    if logits.shape[-1] > 5:
        sums["top5"] = hits(logits, targets, 5)
    sums = {name: jnp.where(mask, value, 0).sum() for name, value in sums.items()}
    return {**sums, "count": mask.sum()}


def hits(logits: jax.Array, targets: jax.Array, k: int) -> jax.Array:
    """Whether each image's true class is among the `k` highest logits, (B,) bool.

    It is where fewer than `k` other classes are not below it: a tie counts for the other class and
    NaN, in any class, is below nothing and above all. So the order of the classes changes no
    figure, and a network whose logits are all alike, or no numbers, scores nothing. The true class
    of a distribution is that of the greatest share; of several such the one of the highest logit.
    A target outside of the classes, which has no share of any, is no hit.
    """
    shares = distribution(targets, logits.shape[-1])
    true = (shares == shares.max(axis=-1, keepdims=True)) & (shares > 0)
    own = jnp.where(true, logits, -jnp.inf).max(axis=-1, keepdims=True)
    not_below = ~true & ~(logits < own)
    return (not_below.sum(axis=-1) < k) & ~jnp.isnan(own[..., 0]) & true.any(axis=-1)


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross-entropy of each image, (B,) float32; a class without a share takes no part in it."""
    shares = distribution(targets, logits.shape[-1])
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    # Not shares × log_probs alone: 0 × -inf, of a class that is left out, is no number.
    return -jnp.where(shares > 0, shares * log_probs, 0).sum(axis=-1)


def distribution(targets: jax.Array, num_classes: int) -> jax.Array:
    """Targets as shares of classes, (B, K) float32: classes (B,) become ones and zeros."""
    if targets.ndim == 1:
        return jax.nn.one_hot(targets, num_classes)
    return targets.astype(jnp.float32)
