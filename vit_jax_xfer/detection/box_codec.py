"""Boxes as four numbers relative to other boxes (R-CNN, 1311.2524), and inside an image."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.detection.box_overlap import as_boxes

# So that no network's output makes a box of infinite size: a factor of 1000 / 16 (detectron2).
LARGEST_LOG = math.log(1000 / 16)
# Pixels that a side has at least where boxes are encoded, so that its logarithm is finite.
SMALLEST_SIDE = 1e-3

Weights = Sequence[float]


def encode(
    boxes: ArrayLike, targets: ArrayLike, weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> jax.Array:
    """The deltas that make `targets` of `boxes`, both (…, 4): (…, 4) float32 dx, dy, dw, dh.

    weights: a factor each of dx, dy, dw, dh. Sides count as SMALLEST_SIDE at least.
    """
    boxes, targets = as_boxes("boxes", boxes), as_boxes("targets", targets)
    centres, sides = _centres_and_sides(boxes)
    wanted, size = _centres_and_sides(targets)
    sides, size = jnp.maximum(sides, SMALLEST_SIDE), jnp.maximum(size, SMALLEST_SIDE)
    moves = jnp.concatenate([(wanted - centres) / sides, jnp.log(size / sides)], axis=-1)
    return moves * jnp.asarray(weights, jnp.float32)


def decode(
    boxes: ArrayLike, deltas: ArrayLike, weights: Weights = (1.0, 1.0, 1.0, 1.0)
) -> jax.Array:
    """The boxes that `deltas` (…, 4) make of `boxes` (…, 4): the inverse of `encode`, float32.

    Logarithms of sides are cut at LARGEST_LOG; the two broadcast against each other.
    """
    boxes, deltas = as_boxes("boxes", boxes), as_boxes("deltas", deltas)
    centres, sides = _centres_and_sides(boxes)
    moves = deltas / jnp.asarray(weights, jnp.float32)
    centres = centres + moves[..., :2] * sides
    half = sides * jnp.exp(jnp.minimum(moves[..., 2:], LARGEST_LOG)) / 2
    return jnp.concatenate([centres - half, centres + half], axis=-1)


def clip(boxes: ArrayLike, size: ArrayLike) -> jax.Array:
    """Boxes (…, N, 4) cut to images of `size` (…, 2) height and width: (…, N, 4) float32."""
    boxes = as_boxes("boxes", boxes)
    height, width = jnp.moveaxis(jnp.asarray(size, jnp.float32), -1, 0)
    limit = jnp.stack([width, height, width, height], axis=-1)
    return jnp.clip(boxes, 0.0, limit[..., None, :])


def _centres_and_sides(boxes: jax.Array) -> tuple[jax.Array, jax.Array]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + sides / 2, sides
