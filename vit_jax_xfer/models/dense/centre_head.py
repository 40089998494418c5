"""A light detection head without anchors or regions: each cell near an object's middle finds it.

FCOS (1904.01355) with a joint score of class and quality (2006.04388): a cell's logit for a class
is trained towards the IoU of the box that it predicts. Its convolutions are depthwise, and the same
on all levels.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.detection.anchor_grid import cell_centres
from vit_jax_xfer.detection.box_codec import LARGEST_LOG, clip
from vit_jax_xfer.detection.box_overlap import area, giou, iou
from vit_jax_xfer.detection.detection_losses import quality_focal_loss
from vit_jax_xfer.models.dense.counted_mean import CountedMean
from vit_jax_xfer.models.dense.detections import Choice, Detections, Truth, strongest
from vit_jax_xfer.models.filter.convolution import Depthwise
from vit_jax_xfer.models.products import matrix_product
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL
from vit_jax_xfer.models.transformer.block_design import layer_norm

_EPS = 1e-6
NEAR = 1.5  # strides from an object's middle, within which cells of it are trained to find it
LONGEST = 8  # strides of a level, from which on an object belongs to a coarser one
PRIOR = 0.01  # score of every class before training
BOX_WEIGHT = 2.0  # of the loss of boxes beside that of classes (2006.04388)


class CentreHead(nn.Module):
    """Levels (B, h, w, C) → logits (B, N, K) and distances (B, N, 4) of all cells, float32.

    Distances to the left, top, right and bottom of the box are in strides. depth: convolutions
    before each of the two.
    """

    num_classes: int
    strides: tuple[int, ...]
    width: int = 96
    depth: int = 2
    choice: Choice = Choice()
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.class_tower = [self._convolution() for _ in range(self.depth)]
        self.box_tower = [self._convolution() for _ in range(self.depth)]
        self.centre_predictor = CentrePredictor(self.num_classes, self.dtype)

    def _convolution(self) -> "SeparableConvolution":
        return SeparableConvolution(self.width, self.dtype)

    def __call__(self, levels: Sequence[jax.Array]) -> tuple[jax.Array, jax.Array]:
        found = []
        for x in levels:
            of_class = of_box = x
            for convolve in self.class_tower:
                of_class = convolve(of_class)
            for convolve in self.box_tower:
                of_box = convolve(of_box)
            outputs = self.centre_predictor(of_class, of_box)
            found.append([y.reshape(len(x), -1, y.shape[-1]) for y in outputs])
        logits, distances = (jnp.concatenate(x, axis=1) for x in zip(*found, strict=True))
        return logits, distances

    def make_parameters(self, levels: Sequence[jax.Array]) -> None:
        """Runs each part once, so that its parameters are made."""
        self(levels[:1])

    def losses(
        self, levels: Sequence[jax.Array], truth: Truth, key: jax.Array
    ) -> dict[str, CountedMean]:
        """`classes` (quality focal) and `boxes` (GIoU), each over the cells of objects.

        key: unused, since nothing is drawn.
        """
        logits, distances = self(levels)
        cells = CentreCells(levels, self.strides[: len(levels)])
        boxes = cells.boxes(distances)
        objects, positive = jax.vmap(cells.objects)(truth.boxes, truth.valid)
        number = positive.sum(1).astype(jnp.float32).sum()
        if not truth.boxes.shape[1]:
            none = quality_focal_loss(logits, jnp.zeros_like(logits)).sum()
            sums = {"classes": none, "boxes": jnp.zeros(())}
            return {name: CountedMean(total, number) for name, total in sums.items()}
        wanted = jax.vmap(lambda boxes, object_: boxes[object_])(truth.boxes, objects)
        labels = jnp.take_along_axis(truth.labels, objects, axis=1)
        apart = jnp.where(positive, 1 - giou(boxes, wanted, paired=True), 0.0)
        quality = jax.lax.stop_gradient(iou(boxes, wanted, paired=True)) * positive
        target = nn.one_hot(labels, logits.shape[-1]) * quality[..., None]
        sums = {
            "classes": quality_focal_loss(logits, target).sum(),
            "boxes": BOX_WEIGHT * apart.sum(),
        }
        return {name: CountedMean(total, number) for name, total in sums.items()}

    def detect(self, levels: Sequence[jax.Array], content: jax.Array) -> Detections:
        """What is in images with content (B, 2), of their levels; without masks."""
        logits, distances = self(levels)
        boxes = clip(CentreCells(levels, self.strides[: len(levels)]).boxes(distances), content)
        return strongest(boxes, nn.sigmoid(logits), area(boxes) > 0, self.choice)


class SeparableConvolution(nn.Module):
    """A 3×3 convolution a channel, one across channels, norm and SiLU: (B, h, w, C) → width."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = Depthwise(dtype=self.dtype, name="depthwise")(x)
        x = nn.Dense(
            self.width,
            use_bias=False,
            kernel_init=TORCH_KERNEL,
            dtype=self.dtype,
            dot_general=matrix_product,
            name="project",
        )(x)
        return nn.silu(layer_norm(_EPS, self.dtype, "norm")(x))


class CentrePredictor(nn.Module):
    """Two maps (B, h, w, C) → logits (B, h, w, K) and log distances (B, h, w, 4), float32."""

    num_classes: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, of_class: jax.Array, of_box: jax.Array) -> tuple[jax.Array, jax.Array]:
        fields = {
            "kernel_init": nn.initializers.normal(0.01),
            "dtype": jnp.promote_types(jnp.float32, self.dtype),
        }
        prior = nn.initializers.constant(float(np.log(PRIOR / (1 - PRIOR))))
        logits = nn.Dense(self.num_classes, bias_init=prior, name="classes", **fields)(of_class)
        # A box reaches two strides at first.
        start = nn.initializers.constant(float(np.log(2.0)))
        return logits, nn.Dense(4, bias_init=start, name="distances", **fields)(of_box)


class CentreCells:
    """The cells of all levels, one after the other, row by row: what each is trained to find."""

    def __init__(self, levels: Sequence[jax.Array], strides: Sequence[int]) -> None:
        grids = [level.shape[1:3] for level in levels]
        sizes = [h * w for h, w in grids]
        self._grids = np.asarray(grids)
        self._strides = np.asarray(strides, np.float32)
        self._level = np.repeat(np.arange(len(grids)), sizes)
        starts = np.cumsum([0, *sizes[:-1]])
        self._starts = starts
        self.centres = cell_centres(grids, strides)  # (N, 2) x, y in pixels
        self.stride = self._strides[self._level]  # (N,) pixels

    def boxes(self, log_distances: jax.Array) -> jax.Array:
        """Boxes (B, N, 4) of log distances in strides (B, N, 4)."""
        reach = jnp.exp(jnp.minimum(log_distances, LARGEST_LOG)) * self.stride[:, None]
        return jnp.concatenate(
            [self.centres - reach[..., :2], self.centres + reach[..., 2:]], axis=-1
        )

    def objects(self, boxes: jax.Array, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Of boxes (G, 4) the one that each cell is to find, and whether there is one, (N,).

        Those cells are within NEAR strides of the middle of the box and inside it, on the one level
        of its size; and the cell of the middle, so that no object is without. Of several objects
        that whose middle is in the cell, then the smallest.
        """
        if not len(boxes):
            none = jnp.zeros(len(self.stride), jnp.int32)
            return none, none.astype(bool)
        middles, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
        coarser = sides.max(-1)[:, None] >= LONGEST * self._strides[:-1]
        level = coarser.sum(-1)
        grid, stride = jnp.asarray(self._grids)[level], jnp.asarray(self._strides)[level]
        place = jnp.clip((middles / stride[:, None]).astype(jnp.int32), 0, grid[:, ::-1] - 1)
        own = jnp.asarray(self._starts)[level] + place[:, 1] * grid[:, 1] + place[:, 0]
        here = own[None] == jnp.arange(len(self.stride))[:, None]
        cells = self.centres[:, None]
        inside = ((cells > boxes[:, :2]) & (cells < boxes[:, 2:])).all(-1)
        near = (jnp.abs(cells - middles) <= NEAR * self.stride[:, None, None]).all(-1)
        same = self._level[:, None] == level
        fits = valid & (here | (inside & near & same))
        size = jnp.where(here, 0.0, 1e9) + area(boxes)
        cost = jnp.where(fits, size, jnp.inf)
        return cost.argmin(-1).astype(jnp.int32), fits.any(-1)
