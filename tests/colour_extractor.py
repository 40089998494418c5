"""A feature extractor that gives photographs' colours, so that figures are known beforehand."""

import dataclasses

import jax

from vit_jax_xfer.features.feature_extractor import FeatureExtractor


@dataclasses.dataclass(frozen=True)
class Colours:
    """Stands for a Backbone: the mean colour of each cell, as it comes from the photograph."""

    patch_size: int = 1
    width: int = 3
    mean_std = ((0.0,) * 3, (1.0,) * 3)

    def __call__(self, variables: object, images: jax.Array) -> jax.Array:
        b, h, w, c = images.shape
        p = self.patch_size
        return images.reshape(b, h // p, p, w // p, p, c).mean((2, 4))


def colours(patch_size: int = 1, **fields: object) -> FeatureExtractor:
    """The FeatureExtractor of cells' mean colours."""
    return FeatureExtractor("colours", Colours(patch_size), ({}, {}), **fields)
