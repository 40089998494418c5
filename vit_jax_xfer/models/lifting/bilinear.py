"""Bilinear doubling of features, under the interface of LiFT."""

import jax

from vit_jax_xfer.models.lifting.feature_doubler import FeatureDoubler
from vit_jax_xfer.models.lifting.lift import double


class Bilinear(FeatureDoubler):
    """Images, which it doesn't look at, and features (B, h, w, C) → (B, 2h, 2w, C). No variables.

    Half-pixel centres, clamped at the border.
    """

    patch_size: int = 16  # of the ViT

    def __call__(self, images: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        return double(features)
