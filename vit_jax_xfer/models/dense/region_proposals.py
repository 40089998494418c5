"""The region proposal network (1506.01497): where there may be an object of any class.

As ViTDet has it (2203.16527, detectron2): two hidden convolutions without a norm, three anchors a
cell, L1 on deltas.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.detection.box_codec import clip, decode, encode
from vit_jax_xfer.detection.box_matching import match, sample
from vit_jax_xfer.detection.box_overlap import area, iou
from vit_jax_xfer.detection.detection_losses import binary_cross_entropy, smooth_l1
from vit_jax_xfer.detection.suppression import nms
from vit_jax_xfer.models.dense.counted_mean import CountedMean
from vit_jax_xfer.models.dense.detections import Truth

RATIOS = (0.5, 1.0, 2.0)  # height / width of the anchors of a cell
BACKGROUND, OBJECT = 0.3, 0.7  # IoU of an anchor with an object, below and from which it is one
DRAWN, MOST_OBJECTS = 256, 128  # anchors an image whose losses count, and of objects among them
OVERLAP = 0.7  # IoU above which the weaker proposal goes

Levels = Sequence[jax.Array]
Scored = tuple[jax.Array, jax.Array]  # boxes (n, 4), scores (n,), -inf where there is none


class ProposalHead(nn.Module):
    """Levels (B, h, w, C) → for each, logits (B, h·w·3) and deltas (B, h·w·3, 4), float32."""

    width: int = 256
    depth: int = 2
    dtype: Any = jnp.float32

    def setup(self) -> None:
        init = {"kernel_init": nn.initializers.normal(0.01)}
        self.conv = [
            nn.Conv(self.width, (3, 3), padding=1, dtype=self.dtype, **init)
            for _ in range(self.depth)
        ]
        wide = jnp.promote_types(jnp.float32, self.dtype)
        self.objectness = nn.Dense(len(RATIOS), dtype=wide, **init)
        self.deltas = nn.Dense(4 * len(RATIOS), dtype=wide, **init)

    def __call__(self, levels: Levels) -> tuple[list[jax.Array], list[jax.Array]]:
        logits, deltas = [], []
        for x in levels:
            for conv in self.conv:
                x = nn.relu(conv(x))
            logits.append(self.objectness(x).reshape(len(x), -1))
            deltas.append(self.deltas(x).reshape(len(x), -1, 4))
        return logits, deltas


def propose(
    logits: Levels, deltas: Levels, anchors: Levels, content: jax.Array, before: int, after: int
) -> tuple[jax.Array, jax.Array]:
    """Boxes (B, P, 4) and whether each is one (B, P), by falling score; P is at most `after`.

    anchors: (n, 4) a level. content: (B, 2), to which boxes are cut. before: boxes a level, of the
    highest scores, that suppression sees. No gradient goes through.
    """
    logits, deltas = jax.lax.stop_gradient((list(logits), list(deltas)))

    most = min(before, max(len(anchor) for anchor in anchors))

    def of_level(score: jax.Array, delta: jax.Array, anchor: jax.Array, size: jax.Array) -> Scored:
        """The best of a level as boxes, with places that are none where there are fewer."""
        score, places = jax.lax.top_k(score, min(most, len(score)))
        boxes = clip(decode(anchor[places], delta[places]), size)
        score = jnp.where(area(boxes) > 0, score, -jnp.inf)
        left = most - len(score)
        return jnp.pad(boxes, ((0, left), (0, 0))), jnp.pad(
            score, (0, left), constant_values=-jnp.inf
        )

    def kept(boxes: jax.Array, scores: jax.Array) -> Scored:
        places, valid = nms(boxes, scores, OVERLAP, min(after, most))
        return boxes[places], jnp.where(valid, scores[places], -jnp.inf)

    def of_image(logits: Levels, deltas: Levels, size: jax.Array) -> tuple[jax.Array, jax.Array]:
        levels = zip(logits, deltas, anchors, strict=True)
        found = zip(*(of_level(*level, size) for level in levels), strict=True)
        boxes, scores = jax.vmap(kept)(*(jnp.stack(x) for x in found))
        scores, places = jax.lax.top_k(scores.reshape(-1), min(after, scores.size))
        valid = scores > -jnp.inf
        return jnp.where(valid[:, None], boxes.reshape(-1, 4)[places], 0.0), valid

    return jax.vmap(of_image)(logits, deltas, content)


def proposal_losses(
    key: jax.Array, logits: jax.Array, deltas: jax.Array, anchors: jax.Array, truth: Truth
) -> dict[str, CountedMean]:
    """`objectness` (cross-entropy) and `proposal_boxes` (L1), each over DRAWN anchors an image.

    logits: (B, A). deltas: (B, A, 4). anchors: (A, 4), of all levels.
    """

    def of_image(
        key: jax.Array, logits: jax.Array, deltas: jax.Array, boxes: jax.Array, valid: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        overlaps = jnp.where(valid[:, None], iou(boxes, anchors), -1.0)
        objects, labels = match(overlaps, BACKGROUND, OBJECT, True)
        drawn, there = sample(key, labels, DRAWN, MOST_OBJECTS)
        positive = there & (labels[drawn] == 1)
        wrong = binary_cross_entropy(logits[drawn], positive) * there
        if not len(boxes):
            return wrong.sum(), jnp.zeros(())
        wanted = encode(anchors[drawn], boxes[objects[drawn]])
        apart = jnp.where(positive[:, None], smooth_l1(deltas[drawn] - wanted), 0.0)
        return wrong.sum(), apart.sum()

    keys = jax.random.split(key, len(logits))
    wrong, apart = jax.vmap(of_image)(keys, logits, deltas, truth.boxes, truth.valid)
    number = jnp.float32(DRAWN * len(logits))
    sums = {"objectness": wrong.sum(), "proposal_boxes": apart.sum()}
    return {name: CountedMean(total, number) for name, total in sums.items()}
