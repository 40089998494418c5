"""How much boxes overlap: IoU and what is built on it.

What is no box (NaN, infinite, or sides swapped) counts as an empty one at the origin, so that it
overlaps nothing and no figure of it is NaN.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.detection.compiled import compiled


def as_boxes(name: str, boxes: jax.Array) -> jax.Array:
    """Boxes (…, 4) as float32. ValueError, naming the argument, for another shape."""
    boxes = given_array(name, boxes)
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        raise ValueError(f"{name}: expected boxes (…, 4) x0, y0, x1, y1, got {tuple(boxes.shape)}")
    return boxes.astype(jnp.float32)


def is_box(boxes: jax.Array) -> jax.Array:
    """Whether each of (…, 4) is finite with sides that are not swapped: (…,) bool."""
    return jnp.isfinite(boxes).all(-1) & (boxes[..., 2:] >= boxes[..., :2]).all(-1)


def area(boxes: ArrayLike) -> jax.Array:
    """Square pixels of boxes (…, 4): (…,) float32."""
    return _area(_tidy("boxes", boxes))


@compiled("paired")
def iou(a: ArrayLike, b: ArrayLike, paired: bool = False) -> jax.Array:
    """Intersection over union of boxes (…, N, 4) and (…, M, 4): (…, N, M) float32, 0 to 1.

    paired: True takes each with its own of equally shaped (…, 4) → (…,). Of two empty boxes it is
    0. ValueError, naming the argument, for another shape; so do the others here.
    """
    return _iou(*_pairs(a, b, paired))[0]


@compiled("paired")
def giou(a: ArrayLike, b: ArrayLike, paired: bool = False) -> jax.Array:
    """Generalised IoU (1902.09630), -1 to 1: less the share of the hull that neither covers."""
    a, b = _pairs(a, b, paired)
    overlap, union = _iou(a, b)
    hull = _area(_hull(a, b))
    return overlap - _ratio(hull - union, hull)


@compiled("paired")
def diou(a: ArrayLike, b: ArrayLike, paired: bool = False) -> jax.Array:
    """Distance IoU (1911.08287): less the squared distance of centres over the hull's diagonal."""
    a, b = _pairs(a, b, paired)
    return _iou(a, b)[0] - _distance(a, b)


@compiled("paired")
def ciou(a: ArrayLike, b: ArrayLike, paired: bool = False) -> jax.Array:
    """Complete IoU (1911.08287): the distance IoU less α·v, of how the aspect ratios differ.

    α has no gradient, as in the authors' code.
    """
    a, b = _pairs(a, b, paired)
    overlap = _iou(a, b)[0]
    v = 4 / math.pi**2 * jnp.square(_angle(a) - _angle(b))
    alpha = jax.lax.stop_gradient(_ratio(v, 1 - overlap + v))
    return overlap - _distance(a, b) - alpha * v


def _tidy(name: str, boxes: jax.Array) -> jax.Array:
    boxes = as_boxes(name, boxes)
    return jnp.where(is_box(boxes)[..., None], boxes, 0.0)


def _pairs(a: jax.Array, b: jax.Array, paired: bool) -> tuple[jax.Array, jax.Array]:
    """Boxes that broadcast against each other."""
    a, b = _tidy("a", a), _tidy("b", b)
    if paired:
        if a.shape != b.shape:
            raise ValueError(f"b: got {b.shape}, a has {a.shape}; pairs are equally many")
        return a, b
    for name, boxes in (("a", a), ("b", b)):
        if boxes.ndim < 2:
            raise ValueError(f"{name}: expected boxes (…, N, 4), got {tuple(boxes.shape)}")
    return a[..., :, None, :], b[..., None, :, :]


def _area(boxes: jax.Array) -> jax.Array:
    sides = boxes[..., 2:] - boxes[..., :2]
    return sides[..., 0] * sides[..., 1]


def _hull(a: jax.Array, b: jax.Array) -> jax.Array:
    corners = (jnp.minimum(a[..., :2], b[..., :2]), jnp.maximum(a[..., 2:], b[..., 2:]))
    return jnp.concatenate(corners, axis=-1)


def _iou(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """IoU and union."""
    # Sides one by one: an array of both for all pairs would be the largest of a detector's step.
    ends = (jnp.minimum(a[..., i + 2], b[..., i + 2]) for i in (0, 1))
    starts = (jnp.maximum(a[..., i], b[..., i]) for i in (0, 1))
    pairs = zip(ends, starts, strict=True)
    width, height = (jnp.maximum(end - start, 0.0) for end, start in pairs)
    common = width * height
    union = _area(a) + _area(b) - common
    return _ratio(common, union), union


def _distance(a: jax.Array, b: jax.Array) -> jax.Array:
    """Squared distance of the centres over the squared diagonal of the hull."""
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    hull = _hull(a, b)
    diagonal = jnp.square(hull[..., 2:] - hull[..., :2]).sum(-1)
    return _ratio(jnp.square(apart).sum(-1), diagonal)


def _angle(boxes: jax.Array) -> jax.Array:
    """The angle of the diagonal to the vertical; of an empty box 0, with no gradient."""
    sides = boxes[..., 2:] - boxes[..., :2]
    flat = sides[..., 1] <= 0
    return jnp.where(flat, 0.0, jnp.arctan(sides[..., 0] / jnp.where(flat, 1.0, sides[..., 1])))


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """part / whole, and 0 where the whole is none; its gradient is finite too."""
    some = whole > 0
    return jnp.where(some, part / jnp.where(some, whole, 1.0), 0.0)
