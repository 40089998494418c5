"""The heads of Mask R-CNN (1703.06870) and of its cascade (1712.00726), on a pyramid's levels."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.detection.anchor_grid import anchors
from vit_jax_xfer.detection.box_codec import clip, decode
from vit_jax_xfer.detection.region_pooling import roi_align_levels
from vit_jax_xfer.models.dense.box_head import (
    BOX_SIDE,
    BoxHead,
    BoxPredictor,
    Regions,
    box_losses,
    draw_regions,
    match_again,
    most_objects,
)
from vit_jax_xfer.models.dense.counted_mean import CountedMean
from vit_jax_xfer.models.dense.detections import (
    Choice,
    Detections,
    Truth,
    strongest,
)
from vit_jax_xfer.models.dense.mask_head import (
    MASK_SIDE,
    MaskHead,
    MaskPredictor,
    mask_loss,
    of_class,
)
from vit_jax_xfer.models.dense.region_proposals import (
    RATIOS,
    ProposalHead,
    proposal_losses,
    propose,
)

# Of each stage: IoU from which a region is on an object, and the weights of its deltas.
SINGLE = ((0.5, (10.0, 10.0, 5.0, 5.0)),)
CASCADE = (
    (0.5, (10.0, 10.0, 5.0, 5.0)),
    (0.6, (20.0, 20.0, 10.0, 10.0)),
    (0.7, (30.0, 30.0, 15.0, 15.0)),
)


class RegionHeads(nn.Module):
    """Proposals, a box head a stage, and a mask head, on levels (B, h, w, C), fine to coarse.

    strides: pixels a cell of each level. Proposals come from all levels, regions are pooled from
    all but the coarsest. cascade: three stages, each from the boxes of the one before, whose
    deltas are the same for all classes. anchor_scale: side of a square anchor, in strides.
    proposals: kept an image, of twice as many a level in training. regions: drawn an image for the
    losses of the box and mask head.
    """

    num_classes: int
    strides: tuple[int, ...]
    width: int = 256
    hidden: int = 1024
    cascade: bool = False
    masks: bool = True
    anchor_scale: float = 8.0
    proposals: int = 1000
    regions: int = 512
    choice: Choice = Choice()
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.proposal_head = ProposalHead(self.width, dtype=self.dtype)
        self.stages = CASCADE if self.cascade else SINGLE
        self.box_head = [BoxHead(self.width, self.hidden, self.dtype) for _ in self.stages]
        self.box_predictor = [
            BoxPredictor(self.num_classes, not self.cascade, self.dtype) for _ in self.stages
        ]
        if self.masks:
            self.mask_head = MaskHead(self.width, self.dtype)
            self.mask_predictor = MaskPredictor(self.num_classes, self.dtype)

    def make_parameters(self, levels: Sequence[jax.Array]) -> None:
        """Runs each part once on as little as there is, so that its parameters are made."""
        self.proposal_head(levels[:1])
        boxes = jnp.zeros((1, 1, 4))
        first = [level[:1] for level in levels[:1]]
        for i in range(len(self.stages)):
            self._stage(first, boxes, i)
        if self.masks:
            self._masks(first, boxes)

    def losses(
        self, levels: Sequence[jax.Array], truth: Truth, key: jax.Array
    ) -> dict[str, CountedMean]:
        """Mask R-CNN's five losses, each of weight 1; of a cascade, those of a box a stage.

        ValueError where there is a mask head and the batch has no masks to learn from.
        """
        if self.masks and truth.masks is None:
            raise ValueError(
                "box_masks: the batch has none, and the detector has a mask head; set masks=False, "
                "or take data with outlines (in a run model.masks, or data.mask_size=56)"
            )
        proposal_key, region_key = jax.random.split(key)
        grids = self._anchors(levels)
        logits, deltas = self.proposal_head(levels)
        flat = (jnp.concatenate(x, axis=1) for x in (logits, deltas))
        found = proposal_losses(proposal_key, *flat, jnp.concatenate(grids), truth)
        boxes, there = propose(
            logits, deltas, grids, truth.content, 2 * self.proposals, self.proposals
        )
        number = min(self.regions, boxes.shape[1] + truth.boxes.shape[1])
        overlap, _ = self.stages[0]
        regions = draw_regions(region_key, boxes, there, truth, number, overlap)
        found |= self._box_losses(levels, regions, truth)
        if self.masks:
            first = most_objects(number)
            regions = jax.tree.map(lambda x: x[:, :first], regions)
            found["masks"] = mask_loss(self._masks(levels, regions.boxes), regions, truth)
        return found

    def _box_losses(
        self, levels: Sequence[jax.Array], regions: Regions, truth: Truth
    ) -> dict[str, CountedMean]:
        found: dict[str, CountedMean] = {}
        for i, (overlap, weights) in enumerate(self.stages):
            if i:
                regions = match_again(regions.boxes, regions.drawn, truth, overlap)
            logits, deltas = self._stage(levels, regions.boxes, i)
            losses = box_losses(logits, deltas, regions, truth, weights)
            ending = f"_{i + 1}" if self.cascade else ""
            found |= {f"{name}{ending}": loss for name, loss in losses.items()}
            if self.cascade:
                boxes = clip(decode(regions.boxes, deltas[:, :, 0], weights), truth.content)
                regions = regions.replace(boxes=jax.lax.stop_gradient(boxes))
        return found

    def detect(self, levels: Sequence[jax.Array], content: jax.Array) -> Detections:
        """What is in images with content (B, 2), of their levels.

        A cascade's scores are the mean of its stages', its boxes the last one's.
        """
        logits, deltas = self.proposal_head(levels)
        grids = self._anchors(levels)
        boxes, there = propose(logits, deltas, grids, content, self.proposals, self.proposals)
        scores = 0.0
        for i, (_, weights) in enumerate(self.stages):
            logits, deltas = self._stage(levels, boxes, i)
            scores += nn.softmax(logits.astype(jnp.float32))[..., :-1] / len(self.stages)
            by_class = decode(boxes[:, :, None], deltas, weights)
            flat = clip(by_class.reshape(len(boxes), -1, 4), content)
            boxes = flat if self.cascade else flat.reshape(by_class.shape)
        found = strongest(boxes, scores, there, self.choice)
        if not self.masks:
            return found
        logits = self._masks(levels, found.boxes)
        masks = nn.sigmoid(of_class(logits, jnp.maximum(found.classes, 0).reshape(-1)))
        masks = masks.reshape(*found.valid.shape, *masks.shape[1:])
        return found.replace(masks=jnp.where(found.valid[..., None, None], masks, 0.0))

    def _anchors(self, levels: Sequence[jax.Array]) -> list[jax.Array]:
        strides = self.strides[: len(levels)]
        sizes = [self.anchor_scale * stride for stride in strides]
        found = anchors([level.shape[1:3] for level in levels], strides, sizes, RATIOS)
        # Else the compiler works out what follows from a quarter of a million constants.
        return jax.lax.optimization_barrier(found)

    def _stage(
        self, levels: Sequence[jax.Array], boxes: jax.Array, i: int
    ) -> tuple[jax.Array, jax.Array]:
        """Logits (B, R, K + 1) and deltas (B, R, K or 1, 4) of stage i."""
        pooled = self._pool(levels, boxes, BOX_SIDE)
        if self.cascade:
            # Each stage reads the same features; their gradient is the stages' mean.
            share = 1 / len(self.stages)
            pooled = share * pooled + (1 - share) * jax.lax.stop_gradient(pooled)
        outputs = self.box_predictor[i](self.box_head[i](pooled))
        return tuple(x.reshape(*boxes.shape[:2], *x.shape[1:]) for x in outputs)

    def _masks(self, levels: Sequence[jax.Array], boxes: jax.Array) -> jax.Array:
        """Logits (B · R, m, m, K)."""
        return self.mask_predictor(self.mask_head(self._pool(levels, boxes, MASK_SIDE)))

    def _pool(self, levels: Sequence[jax.Array], boxes: jax.Array, side: int) -> jax.Array:
        """Regions (B · R, side, side, C) under boxes (B, R, 4)."""
        used = max(1, len(levels) - 1)
        strides = tuple(self.strides[:used])

        def of_image(levels: list[jax.Array], boxes: jax.Array) -> jax.Array:
            return roi_align_levels(levels, boxes, side, strides)

        pooled = jax.vmap(of_image)(list(levels[:used]), boxes)
        return pooled.reshape(-1, *pooled.shape[2:])
