"""Classification: which logits are hits, the figures of whole suites, and the command for both."""

from vit_jax_xfer.evaluate.classification.hit_counts import (
    classification_sums,
    cross_entropy,
    distribution,
    hits,
)

__all__ = ["classification_sums", "cross_entropy", "distribution", "hits"]
