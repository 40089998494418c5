"""Classification: which logits are hits, the figures of whole suites, and the command for both.

Names are imported when they are first used, so that the command's --help answers at once.
"""

from typing import TYPE_CHECKING, Any

__all__ = ["classification_sums", "cross_entropy", "distribution", "hits"]

if TYPE_CHECKING:
    from vit_jax_xfer.evaluate.classification.hit_counts import (
        classification_sums,
        cross_entropy,
        distribution,
        hits,
    )


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vit_jax_xfer.evaluate.classification import hit_counts

    return getattr(hit_counts, name)
