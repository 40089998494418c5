"""What a detector is told and what it tells: objects of images, in arrays of static shapes."""

from collections.abc import Mapping

import flax.struct
import jax
import jax.numpy as jnp

from vit_jax_xfer.detection.box_codec import clip
from vit_jax_xfer.detection.box_overlap import area, is_box
from vit_jax_xfer.detection.suppression import nms, soft_nms
from vit_jax_xfer.models.dense.counted_mean import CountedMean

SUPPRESSIONS = ("hard", "linear", "gaussian")


@flax.struct.dataclass
class Detections:
    """The objects that a detector found in each image, by falling score.

    boxes (B, D, 4) x0, y0, x1, y1 in pixels of the input; scores (B, D), 0 to 1; classes (B, D)
    int32; valid (B, D) bool, whether there is one: places without are 0, of class -1. masks
    (B, D, m, m), probabilities in the frame of each box, or None from a detector without.
    """

    boxes: jax.Array
    scores: jax.Array
    classes: jax.Array
    valid: jax.Array
    masks: jax.Array | None = None


@flax.struct.dataclass
class Truth:
    """The objects that are in a batch, B images of up to G.

    boxes (B, G, 4); labels (B, G) int32; valid (B, G) bool; masks (B, G, m, m), each in the frame
    of its box, or None; content (B, 2), height and width of what is no padding.
    """

    boxes: jax.Array
    labels: jax.Array
    valid: jax.Array
    masks: jax.Array | None
    content: jax.Array


def truth_of(targets: Mapping[str, jax.Array], image_size: tuple[int, int]) -> Truth:
    """The objects of a batch's `boxes`, `box_labels`, `box_masks` and `content`.

    What is no box (NaN, sides swapped, no area inside the image's content) counts as padding.
    image_size: height and width of the prepared images, their content where the batch has none.
    """
    boxes = jnp.asarray(targets["boxes"]).astype(jnp.float32)
    labels = jnp.asarray(targets["box_labels"])
    content = content_of(targets.get("content"), len(boxes), image_size)
    seen = is_box(boxes) & (area(clip(boxes, content)) > 0)
    valid = (labels >= 0) & seen
    boxes = jnp.where(valid[..., None], boxes, 0.0)
    return Truth(boxes, jnp.where(valid, labels, 0), valid, targets.get("box_masks"), content)


def content_of(content: jax.Array | None, batch: int, image_size: tuple[int, int]) -> jax.Array:
    """Heights and widths (B, 2) float32 of images' content; those of the images for None."""
    if content is None:
        return jnp.broadcast_to(jnp.asarray(image_size, jnp.float32), (batch, 2))
    return jnp.asarray(content).astype(jnp.float32)


def nan_for_wrong_labels(
    losses: dict[str, CountedMean], truth: Truth, num_classes: int
) -> dict[str, CountedMean]:
    """The losses, NaN where a label is beyond the classes: a run ends rather than learns it."""
    wrong = (truth.labels >= num_classes).any()
    factor = jnp.where(wrong, jnp.nan, 1.0)
    return {name: loss.scaled(factor) for name, loss in losses.items()}


@flax.struct.dataclass
class Choice:
    """How detections are chosen among scored boxes: the numbers of a detector's fields.

    most: detections an image. score: below which a box is none. overlap: IoU above which the
    weaker of one class goes. suppression: "hard", or how soft-NMS lowers scores instead: "linear",
    "gaussian". candidates: boxes an image, those of the highest scores, that suppression sees.
    """

    most: int = flax.struct.field(pytree_node=False, default=100)
    score: float = flax.struct.field(pytree_node=False, default=0.05)
    overlap: float = flax.struct.field(pytree_node=False, default=0.5)
    suppression: str = flax.struct.field(pytree_node=False, default="hard")
    candidates: int = flax.struct.field(pytree_node=False, default=1000)


def strongest(boxes: jax.Array, scores: jax.Array, there: jax.Array, choice: Choice) -> Detections:
    """The detections among boxes (B, N, 4), or a box a class (B, N, K, 4), of scores (B, N, K).

    there: (B, N) bool, False for places without a box.
    """
    if boxes.ndim == 3:
        boxes = boxes[:, :, None]
    scores = jnp.where(there[..., None], scores.astype(jnp.float32), -jnp.inf)
    return jax.vmap(lambda b, s: _strongest(b, s, choice))(boxes, scores)


def _strongest(boxes: jax.Array, scores: jax.Array, choice: Choice) -> Detections:
    """Of one image: (N, 1 or K, 4), (N, K)."""
    flat = jnp.where(scores > choice.score, scores, -jnp.inf).reshape(-1)
    best, places = jax.lax.top_k(flat, min(choice.candidates, flat.size))
    rows, classes = places // scores.shape[1], places % scores.shape[1]
    chosen = boxes[rows, classes if boxes.shape[1] > 1 else 0]
    if choice.suppression == "hard":
        kept, valid = nms(chosen, best, choice.overlap, choice.most, classes)
        score = best[kept]
    else:
        kept, score, valid = soft_nms(
            chosen,
            best,
            choice.most,
            classes,
            method=choice.suppression,
            threshold=choice.overlap,
        )
    return Detections(
        jnp.where(valid[:, None], chosen[kept], 0.0),
        jnp.where(valid, score, 0.0),
        jnp.where(valid, classes[kept], -1).astype(jnp.int32),
        valid,
    )
