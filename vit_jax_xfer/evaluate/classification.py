"""Top-1, top-5 and loss of classification, as sums over images."""

import jax
import jax.numpy as jnp
import optax


def classification_sums(
    logits: jax.Array, labels: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """Sums of loss, top-1 and top-5 hits over the real images of a batch (see Task.evaluate)."""
    logits = logits.astype(jnp.float32)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    true = jnp.take_along_axis(logits, labels[:, None], axis=1)
    # Ties count against the model, so that constant logits score nothing by accident.
    others = jnp.arange(logits.shape[-1]) != labels[:, None]
    rank = ((logits >= true) & others).sum(axis=1)
    sums = {"loss": loss, "top1": rank < 1, "top5": rank < 5}
    if logits.shape[-1] <= 5:
        del sums["top5"]
    sums = {name: jnp.where(mask, value, 0).sum() for name, value in sums.items()}
    return {**sums, "count": mask.sum()}
