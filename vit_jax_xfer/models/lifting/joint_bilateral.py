"""Joint bilateral upsampling: features doubled by the image alone, with nothing to train.

Source: Kopf et al. 2007, Joint Bilateral Upsampling, with the image as the guide.
"""

import jax
import jax.numpy as jnp

from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.models.filter.convolution import adaptive_pool
from vit_jax_xfer.models.lifting.feature_doubler import FeatureDoubler
from vit_jax_xfer.models.lifting.lift_inputs import check_inputs
from vit_jax_xfer.models.lifting.neighbours import (
    add_by_child,
    combine,
    products,
    squared_distances,
)


class JointBilateral(FeatureDoubler):
    """Images (B, H, W, 3) and features (B, h, w, C) → (B, 2h, 2w, C), as LiFT takes and gives them.

    Weights are Gaussians of distance and of difference in colour, between the mean colour of a
    quarter of a patch and those of the patches at most `radius` away. It has no variables:
    `apply({}, images, features)`, and `lift(model, {}, …)`. `train` changes nothing.
    ValueError as LiFT's, and for a sigma that is not positive.
    """

    patch_size: int = 16  # of the ViT
    radius: int = 2
    spatial_sigma: float = 0.5  # in cells of the given features
    # In units of the normalised images, over three channels together: of ImageNet's normalisation
    # 0.5 is about 0.11 of the range from black to white.
    range_sigma: float = 0.5
    width: int | None = None  # channels of the features; None = any

    def __call__(self, images: jax.Array, features: jax.Array, train: bool = False) -> jax.Array:
        del train
        self._check_fields()
        images, features = jnp.asarray(images), jnp.asarray(features)
        h, w = check_inputs(images, features, self.patch_size, self.width)
        covered = images[:, : h * self.patch_size, : w * self.patch_size].astype(jnp.float32)
        # Less the mean, for the difference of large products would be rounded.
        covered -= covered.mean((1, 2), keepdims=True)
        fine, coarse = adaptive_pool(covered, (2 * h, 2 * w)), adaptive_pool(covered, (h, w))
        # Without what is the same for all neighbours, |a - b|² is |b|² - 2·a·b: one more channel.
        query = jnp.concatenate([2 * fine, -jnp.ones_like(fine[..., :1])], axis=-1)
        key = jnp.concatenate([coarse, jnp.square(coarse).sum(-1, keepdims=True)], axis=-1)
        alike = products(query, key, self.radius) / (2 * self.range_sigma**2)
        near = -squared_distances(self.radius) / (2 * self.spatial_sigma**2)
        return combine(features, add_by_child(alike, jnp.asarray(near)))

    def _check_fields(self) -> None:
        check_whole("patch_size", self.patch_size)
        check_whole("radius", self.radius)
        if self.width is not None:
            check_whole("width", self.width)
        for field in ("spatial_sigma", "range_sigma"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field}: got {getattr(self, field)!r}, expected more than 0")
