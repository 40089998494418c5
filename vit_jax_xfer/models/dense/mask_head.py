"""The mask head of Mask R-CNN (1703.06870): which cells of a region its object covers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.detection.detection_losses import binary_cross_entropy
from vit_jax_xfer.detection.region_masks import mask_targets
from vit_jax_xfer.models.dense.box_head import RegionConvolutions, Regions, of_objects
from vit_jax_xfer.models.dense.counted_mean import CountedMean
from vit_jax_xfer.models.dense.detections import Truth
from vit_jax_xfer.models.lifting.lift import Doubling

MASK_SIDE = 14  # cells of a pooled region; a mask has twice as many


class MaskHead(nn.Module):
    """Pooled regions (N, s, s, C) → features (N, 2s, 2s, width)."""

    width: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = RegionConvolutions(self.width, self.dtype, name="convolutions")(x)
        return nn.relu(Doubling(self.width, self.dtype, name="up")(x))


class MaskPredictor(nn.Module):
    """Features (N, m, m, C) → logits (N, m, m, K), a mask for each class, float32."""

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.normal(0.001)
        wide = jnp.promote_types(jnp.float32, self.dtype)
        return nn.Dense(self.num_classes, kernel_init=init, dtype=wide, name="classes")(x)


def of_class(logits: jax.Array, classes: jax.Array) -> jax.Array:
    """Of each region the mask of its class: (N, m, m, K), (N,) → (N, m, m)."""
    return jnp.take_along_axis(logits, classes[:, None, None, None], axis=3)[..., 0]


def mask_loss(logits: jax.Array, regions: Regions, truth: Truth) -> CountedMean:
    """Cross-entropy of the object's class over the cells of all regions on objects.

    logits: (B · R, m, m, K).
    """
    masks = of_objects(truth.masks, regions)
    boxes = of_objects(truth.boxes, regions)
    labels = of_objects(truth.labels, regions).reshape(-1)
    wanted = mask_targets(
        masks.reshape(-1, *masks.shape[2:]),
        boxes.reshape(-1, 4),
        regions.boxes.reshape(-1, 4),
        logits.shape[1],
    )
    wrong = binary_cross_entropy(of_class(logits, labels), wanted).mean((1, 2))
    return CountedMean.of(wrong.reshape(regions.on_object.shape), regions.on_object)
