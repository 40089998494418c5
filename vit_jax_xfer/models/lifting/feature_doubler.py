"""What the networks that double features answer alike."""

import math
from typing import Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.protocol import Network, Shapes
from vit_jax_xfer.models.transformer.patches import ImageSize, sides_of


class FeatureDoubler(Network):
    """Images (B, H, W, 3) and features (B, H // P, W // P, C) → features of twice as many cells.

    A subclass has the fields `patch_size`, the P of the features, and `width`, their C. One that is
    trained has `source`, the features that it was trained on.
    """

    predicts = "features"
    heads = starts_afresh = ()

    width = None  # any

    @property
    def encoder(self) -> Self:
        """Itself."""
        return self

    def summary(self) -> dict[str, str]:
        return {"sizes": f"width {self.width}, patch {self.patch_size}: doubles such features"}

    @nn.nowrap
    def example_inputs(self, image_size: ImageSize | None = None, batch: int = 1) -> Shapes:
        """Images and their features; of one patch where no size is given.

        ValueError where the width is any.
        """
        if self.width is None:
            raise ValueError("width: None is any; give the features' width for example inputs")
        patch = self.patch_size
        (images,) = super().example_inputs(patch if image_size is None else image_size, batch)
        cells = (side // patch for side in images.shape[1:3])
        return images, jax.ShapeDtypeStruct((batch, *cells, self.width), jnp.float32)

    def num_tokens(self, image_shape: tuple[int, ...]) -> int:
        """Cells of the features of an image (…, H, W, 3)."""
        cells = [side // self.patch_size for side in sides_of(tuple(image_shape[-3:-1]))]
        if not all(cells):
            raise ValueError(
                f"image_size: {image_shape[-3]}×{image_shape[-2]} pixels are smaller than one "
                f"{self.patch_size}-pixel patch"
            )
        return math.prod(cells)
