"""The box head of Mask R-CNN: what a region is, and where exactly.

ViTDet's (2203.16527, detectron2): four convolutions and one hidden layer, with a norm a pixel.
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from vit_jax_xfer.detection.box_codec import Weights, encode
from vit_jax_xfer.detection.box_matching import match, sample
from vit_jax_xfer.detection.box_overlap import area, iou
from vit_jax_xfer.detection.detection_losses import smooth_l1
from vit_jax_xfer.models.dense.counted_mean import CountedMean
from vit_jax_xfer.models.dense.detections import Truth
from vit_jax_xfer.models.transformer.block_design import layer_norm

BOX_SIDE = 7  # cells of a pooled region
OBJECT_SHARE = 0.25  # of the regions drawn, those of objects at most
CONVOLUTIONS = 4
_EPS = 1e-6
# As detectron2 fills them: normal by the number of outputs.
CONVOLUTION_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class RegionConvolutions(nn.Module):
    """Convolutions 3×3 without bias, norm, ReLU: (N, s, s, C) → (N, s, s, width)."""

    width: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for i in range(1, CONVOLUTIONS + 1):
            x = nn.Conv(
                self.width,
                (3, 3),
                padding=1,
                use_bias=False,
                kernel_init=CONVOLUTION_INIT,
                dtype=self.dtype,
                name=f"conv_{i}",
            )(x)
            x = nn.relu(layer_norm(_EPS, self.dtype, f"norm_{i}")(x))
        return x


class BoxHead(nn.Module):
    """Pooled regions (N, 7, 7, C) → features (N, hidden)."""

    width: int = 256
    hidden: int = 1024
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = RegionConvolutions(self.width, self.dtype, name="convolutions")(x)
        init = nn.initializers.xavier_uniform()
        x = nn.Dense(self.hidden, kernel_init=init, dtype=self.dtype, name="hidden")(
            x.reshape(len(x), -1)
        )
        return nn.relu(x)


class BoxPredictor(nn.Module):
    """Features (N, C) → logits (N, K + 1), the background last, and deltas (N, K or 1, 4)."""

    num_classes: int
    by_class: bool = True  # deltas for each class
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        wide = jnp.promote_types(jnp.float32, self.dtype)
        boxes = self.num_classes if self.by_class else 1
        of_classes, of_deltas = (nn.initializers.normal(std) for std in (0.01, 0.001))
        logits = nn.Dense(self.num_classes + 1, kernel_init=of_classes, dtype=wide, name="classes")
        deltas = nn.Dense(4 * boxes, kernel_init=of_deltas, dtype=wide, name="deltas")
        return logits(x), deltas(x).reshape(len(x), boxes, 4)


@flax.struct.dataclass
class Regions:
    """Regions whose losses count: boxes (B, R, 4), and of each (B, R)

    whether it is drawn, whether it is on an object, and on which (its place in G).
    """

    boxes: jax.Array
    drawn: jax.Array
    on_object: jax.Array
    objects: jax.Array


def most_objects(number: int) -> int:
    """Regions on objects among those drawn, at most; they come first."""
    return max(1, int(OBJECT_SHARE * number))


def draw_regions(
    key: jax.Array, boxes: jax.Array, there: jax.Array, truth: Truth, number: int, overlap: float
) -> Regions:
    """`number` regions an image of the proposals (B, P, 4) and the true boxes, objects first.

    overlap: IoU from which a region is on an object. No gradient goes through.
    """

    def of_image(
        key: jax.Array, boxes: jax.Array, there: jax.Array, true: jax.Array, valid: jax.Array
    ) -> Regions:
        boxes, there = jnp.concatenate([boxes, true]), jnp.concatenate([there, valid])
        objects, labels = _matched(boxes, there, true, valid, overlap)
        places, drawn = sample(key, labels, number, most_objects(number))
        on_object = drawn & (labels[places] == 1)
        return Regions(boxes[places], drawn, on_object, objects[places])

    keys = jax.random.split(key, len(boxes))
    found = jax.vmap(of_image)(keys, boxes, there, truth.boxes, truth.valid)
    return jax.lax.stop_gradient(found)


def match_again(boxes: jax.Array, drawn: jax.Array, truth: Truth, overlap: float) -> Regions:
    """The same regions at other boxes (B, R, 4), as a cascade's next stage sees them."""

    def of_image(boxes: jax.Array, drawn: jax.Array, true: jax.Array, valid: jax.Array) -> Regions:
        drawn = drawn & (area(boxes) > 0)
        objects, labels = _matched(boxes, drawn, true, valid, overlap)
        return Regions(boxes, drawn, labels == 1, objects)

    found = jax.vmap(of_image)(boxes, drawn, truth.boxes, truth.valid)
    return jax.lax.stop_gradient(found)


def _matched(
    boxes: jax.Array, there: jax.Array, true: jax.Array, valid: jax.Array, overlap: float
) -> tuple[jax.Array, jax.Array]:
    """Objects and labels (R,); -1 for places without a box."""
    overlaps = jnp.where(valid[:, None], iou(true, boxes), -1.0)
    objects, labels = match(overlaps, overlap, overlap)
    return objects, jnp.where(there, labels, -1)


def of_objects(values: jax.Array, regions: Regions) -> jax.Array:
    """Of each region's object its value: (B, G, …) → (B, R, …); zeros where there are none."""
    if not values.shape[1]:
        return jnp.zeros((*regions.objects.shape, *values.shape[2:]), values.dtype)
    return jax.vmap(lambda value, object_: value[object_])(values, regions.objects)


def box_losses(
    logits: jax.Array, deltas: jax.Array, regions: Regions, truth: Truth, weights: Weights
) -> dict[str, CountedMean]:
    """`classes` (cross-entropy) and `boxes` (L1 on objects), each over the regions drawn.

    logits: (B, R, K + 1). deltas: (B, R, K or 1, 4), of which the object's class counts.
    """
    labels = of_objects(truth.labels, regions)
    classes = jnp.where(regions.on_object, labels, logits.shape[-1] - 1)
    wrong = optax.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), classes)
    wanted = encode(regions.boxes, of_objects(truth.boxes, regions), weights)
    column = labels if deltas.shape[2] > 1 else jnp.zeros_like(labels)
    own = jnp.take_along_axis(deltas, column[..., None, None], axis=2)[:, :, 0]
    apart = jnp.where(regions.on_object[..., None], smooth_l1(own - wanted), 0.0)
    drawn = regions.drawn
    return {"classes": CountedMean.of(wrong, drawn), "boxes": CountedMean.of(apart, drawn)}
