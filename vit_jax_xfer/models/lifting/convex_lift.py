"""ConvexLiFT: doubles features by averages of the backbone's own, with weights from the image.

After LiFT (2403.14625), whose image branch it has. What it learns is weights alone, softmaxes over
the cells around each, as the local attention of NAF (2511.18452) and UPLiFT (2601.17950): so its
outputs stay among the backbone's features, however often it is applied. From UPLiFT is that a
network proposes weights by offset, from JAFAR (2506.11136) and NAF that queries meet keys.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.models.lifting.feature_doubler import FeatureDoubler
from vit_jax_xfer.models.lifting.feature_source import FeatureSource
from vit_jax_xfer.models.lifting.lift import ConvNorm, image_branch
from vit_jax_xfer.models.lifting.lift_inputs import check_inputs
from vit_jax_xfer.models.lifting.neighbours import (
    add_by_child,
    combine,
    products,
    squared_distances,
)
from vit_jax_xfer.models.products import matrix_product
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL, torch_bias

# A Gaussian of this many cells weighs the two nearest cells along an axis 3 to 1, as bilinear
# interpolation does: distances are 1/4 and 3/4, and (9/16 - 1/16) / (2 · variance) is log 3.
_BILINEAR_VARIANCE = 0.25 / np.log(3)


class ConvexLiFT(FeatureDoubler):
    """Images (B, H, W, 3) and features (B, h, w, width) → (B, 2h, 2w, width), with h = H // P.

    images: what the ViT saw, normalised. P is `patch_size`; sides need not be multiples of it.
    Each output is a convex combination of the features at most `radius` cells from its parent. A
    fresh network interpolates, nearly bilinearly, whatever the image.
    values: any maps (B, h, w, C) to be averaged by these weights in place of the features, such as
    a classifier's probabilities, → (B, 2h, 2w, C).
    train=True takes the batch's statistics and moves those in `batch_stats` (see BatchNorm).
    ValueError for an image smaller than a patch, and for features or values of another grid, width
    or batch.
    """

    width: int = 384  # channels of the features
    patch_size: int = 16  # of the ViT
    # 5×5 cells: objects that a cell is part of begin near it, and a step further adds 24 weights.
    radius: int = 2
    key_width: int = 64
    hidden: int = 64  # channels of the features as queries and keys see them
    dtype: Any = jnp.float32  # of activations; parameters, statistics and weights stay float32
    source: FeatureSource | None = None  # the features it was trained on; travels along

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        features: jax.Array,
        train: bool = False,
        values: jax.Array | None = None,
    ) -> jax.Array:
        for field in ("patch_size", "width", "radius", "key_width", "hidden"):
            check_whole(field, getattr(self, field))
        grid = check_inputs(images, features, self.patch_size, self.width)
        if values is not None and (values.ndim != 4 or values.shape[:3] != features.shape[:3]):
            raise ValueError(
                f"values: got shape {tuple(values.shape)}, expected {(*features.shape[:3], 'C')}"
            )

        skip, deep = image_branch(images, grid, self.patch_size, self.dtype, train)
        # Backbones' features differ a hundredfold in size.
        seen = nn.LayerNorm(dtype=self.dtype, name="features_norm")(features)
        seen = self._linear(self.hidden, "features", bias_init=torch_bias(self.width))(seen)
        fine = jnp.concatenate([seen.repeat(2, axis=1).repeat(2, axis=2), skip], axis=-1)
        guide = ConvNorm(self.hidden, bias=False, dtype=self.dtype, name="guide")(fine, train)
        logits = self._logits(guide, jnp.concatenate([seen, deep], axis=-1))
        return combine(features if values is None else values, logits).astype(self.dtype)

    def _logits(self, guide: jax.Array, coarse: jax.Array) -> jax.Array:
        """Maps (B, 2h, 2w, ·) and (B, h, w, ·) → logits (B, 2h, 2w, K), float32."""
        window = (2 * self.radius + 1) ** 2
        # Zeros, so that a fresh network's weights are those of the distance.
        zeros = nn.initializers.zeros
        queries = self._linear(self.key_width, "query", kernel_init=zeros, bias_init=zeros)(guide)
        # A bias would add the same to all logits of a cell, which a softmax does not see.
        keys = self._linear(self.key_width, "key", use_bias=False)(coarse)
        offsets = self._linear(window, "offset", kernel_init=zeros, use_bias=False)(guide)
        distance = self.param("distance", _gaussian, (2, 2, window))
        scores = products(queries, keys, self.radius) * self.key_width**-0.5
        return add_by_child(scores + offsets.astype(scores.dtype), distance)

    def _linear(self, width: int, name: str, **fields: Any) -> nn.Dense:
        fields = {"kernel_init": TORCH_KERNEL, **fields}
        return nn.Dense(width, dtype=self.dtype, dot_general=matrix_product, name=name, **fields)


def _gaussian(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """The first logits of distance (2, 2, K); nothing is drawn."""
    radius = int(shape[-1] ** 0.5) // 2
    return jnp.asarray(-squared_distances(radius) / (2 * _BILINEAR_VARIANCE), dtype)
