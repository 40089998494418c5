"""What attention and features are like, and how far two networks are apart in them.

    maps = vjx.extract(model, variables, images, attention=True).attention     # (L, B, H, T, T)
    far = vjx.analysis.attention_distance(maps, grid=(14, 14))                  # (L, B, H), patches
    cost = vjx.analysis.head_divergence(maps[-1], other[-1])                    # (H, H'), nats

`python -m vit_jax_xfer.analysis A B --data …` writes a report of two networks. Each name is
imported when it is first used.
"""

from typing import TYPE_CHECKING

from vit_jax_xfer.lazy_names import lazy_names

_WHERE = {
    "attention_distance": "vit_jax_xfer.analysis.attention_statistics",
    "attention_entropy": "vit_jax_xfer.analysis.attention_statistics",
    "attention_mass": "vit_jax_xfer.analysis.attention_statistics",
    "cka": "vit_jax_xfer.evaluate.similarity.cka",
    "head_divergence": "vit_jax_xfer.analysis.head_matching",
    "image_divergence": "vit_jax_xfer.analysis.head_matching",
    "layer_cka": "vit_jax_xfer.analysis.layer_similarity",
    "layer_features": "vit_jax_xfer.analysis.layer_similarity",
    "layer_terms": "vit_jax_xfer.analysis.layer_similarity",
    "match_heads": "vit_jax_xfer.analysis.head_matching",
    "matched_divergence": "vit_jax_xfer.analysis.head_matching",
    "minibatch_cka": "vit_jax_xfer.analysis.layer_similarity",
}

__all__ = [
    "attention_distance",
    "attention_entropy",
    "attention_mass",
    "cka",
    "head_divergence",
    "image_divergence",
    "layer_cka",
    "layer_features",
    "layer_terms",
    "match_heads",
    "matched_divergence",
    "minibatch_cka",
]

if TYPE_CHECKING:
    from vit_jax_xfer.analysis.attention_statistics import (
        attention_distance,
        attention_entropy,
        attention_mass,
    )
    from vit_jax_xfer.analysis.head_matching import (
        head_divergence,
        image_divergence,
        match_heads,
        matched_divergence,
    )
    from vit_jax_xfer.analysis.layer_similarity import (
        layer_cka,
        layer_features,
        layer_terms,
        minibatch_cka,
    )
    from vit_jax_xfer.evaluate.similarity.cka import cka


if not TYPE_CHECKING:  # else a type checker takes any name for one of these
    __getattr__, __dir__ = lazy_names(__name__, _WHERE)
