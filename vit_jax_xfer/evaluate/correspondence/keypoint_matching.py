"""Keypoints carried from one image to another by similarity of features, and how many arrive (PCK).

Min et al., "SPair-71k: A Large-scale Benchmark for Semantic Correspondence", arXiv 1908.10543;
features are compared as LiFT's evaluation does it, arXiv 2403.14625.
"""

import functools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.array_checks import (
    require_equal,
    require_features,
    require_shape,
    unit_vectors,
)
from vit_jax_xfer.arguments.given_arrays import given_array, host_array
from vit_jax_xfer.arguments.jax_values import is_traced
from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.models.cell_places import CellAxis, CellPlaces, places_or_even

POINTS = 16  # whose maps over the image exist at a time: 13 MB of 448 × 448 pixels


class Matches(NamedTuple):
    """correct: (N,) bool. predicted: (N, 2) float32, x and y in pixels.

    A keypoint that isn't inside of both images is not correct, and predicted is NaN.
    """

    correct: jax.Array
    predicted: jax.Array

    @property
    def skipped(self) -> jax.Array:
        """(N,) bool: keypoints that weren't inside of both images."""
        return jnp.isnan(self.predicted).any(-1)


class PckScore(NamedTuple):
    """mean: of the groups' rates, those without a keypoint left out. pooled: over all keypoints.
    groups: each one's rate, NaN without a keypoint. evaluated, skipped: numbers of keypoints."""

    mean: float
    pooled: float
    groups: dict[str, float]
    evaluated: int
    skipped: int


def pck(
    source_features: ArrayLike,
    target_features: ArrayLike,
    source_points: ArrayLike,
    target_points: ArrayLike,
    image_size: int | tuple[int, int],
    threshold: float | ArrayLike,
    reference: float | ArrayLike | None = None,
    upsample: bool = True,
    source_places: CellPlaces | None = None,
    target_places: CellPlaces | None = None,
) -> Matches:
    """Where each keypoint of one image is found in another, and whether that is right.

    source_features (h, w, C), target_features (h', w', C), source_points and target_points (N, 2)
    as x, y in pixels (pixel i covers i to i + 1) of images that both measure image_size, a number
    or (H, W). A prediction is correct if it is strictly less than threshold × reference away from
    the target point. reference, a number or (N,): SPair's α_bbox takes the longer side of the
    target's box; None = the image's longer side. Without a reference a threshold from 1 on is in
    pixels, as no larger part of an image makes sense; with reference=1 it always is.

    upsample: features of unit length are interpolated to pixels (bilinearly, and not normalised
    again); the keypoint's pixel looks for the pixel of the largest product, in whole pixels, as
    published. Without, the cell that a keypoint lies in looks for the cell of the largest cosine,
    of which the centre is predicted. The first of equals wins. source_places, target_places: where
    cells lie, of patches that overlap; None = they share the image evenly.

    A keypoint outside of the image, or NaN, on either side is skipped: see Matches. ValueError for
    arrays that don't fit each other, and for features that aren't finite.
    """
    source = given_array("source_features", source_features)
    target = given_array("target_features", target_features)
    require_features("source_features", source, "(h, w, C)")
    require_features("target_features", target, "(h, w, C)")
    require_equal("target_features", target.shape[-1], source.shape[-1], "source_features' C")
    sides = [image_size] * 2 if np.ndim(image_size) == 0 else list(image_size)
    if len(sides) != 2:
        raise ValueError(f"image_size: expected a number or (H, W), got {image_size}")
    for side in sides:
        check_whole("image_size", side)
    size = tuple(map(operator.index, sides))
    points = _points("source_points", source_points), _points("target_points", target_points)
    require_equal("target_points", len(points[1]), len(points[0]), "source_points")
    distance = _distance(threshold, reference, size, len(points[0]))
    number = len(points[0])
    # Whole blocks, or each number of keypoints is compiled anew.
    blocks = max(-(-number // POINTS), 1)
    padding = ((0, blocks * POINTS - number), (0, 0))
    given, wanted = (jnp.pad(p, padding, constant_values=jnp.nan) for p in points)
    predicted, error = _match(
        source,
        target,
        given,
        wanted,
        size=size,
        upsample=upsample,
        places=(source_places, target_places),
    )
    return Matches(error[:number] < distance, predicted[:number])


def pck_score(matches: dict[str, Sequence[Matches]]) -> PckScore:
    """PCK of groups of image pairs, such as SPair's categories: {"cat": the pairs' matches}.

    Within a group all keypoints count the same; the groups' rates are then averaged.
    """
    groups, totals = {}, np.zeros(3, np.int64)
    for name, pairs in matches.items():
        counts = [(int(m.correct.sum()), len(m.correct), int(m.skipped.sum())) for m in pairs]
        correct, points, skipped = np.array(counts, np.int64).reshape(-1, 3).sum(0)
        groups[name] = _rate(correct, points - skipped)
        totals += correct, points - skipped, skipped
    rates = [rate for rate in groups.values() if not np.isnan(rate)]
    mean = float(np.mean(rates)) if rates else float("nan")
    return PckScore(mean, _rate(*totals[:2]), groups, int(totals[1]), int(totals[2]))


def _rate(correct: int, evaluated: int) -> float:
    return float(correct / evaluated) if evaluated else float("nan")


def _points(name: str, points: jax.Array) -> jax.Array:
    points = given_array(name, points).astype(jnp.float32)
    if points.size == 0:
        return points.reshape(0, 2)
    require_shape(name, points, "(N, 2)")
    require_equal(name, points.shape[1], 2, "a point (x, y)")
    return points


def _distance(
    threshold: float | jax.Array,
    reference: float | jax.Array | None,
    size: tuple[int, int],
    number: int,
) -> jax.Array:
    """The distance, or the distances (N,), below which a keypoint is correct."""
    for name, value in (("threshold", threshold), ("reference", reference)):
        shape = np.shape(value)
        if not (value is None and name == "reference") and not is_traced(value):
            numbers = host_array(name, value)
            if name == "threshold" and not (numbers > 0).all():
                raise ValueError(f"threshold: got {value}, expected more than 0")
        if shape not in ((), (number,)):
            raise ValueError(f"{name}: expected a number or one for each of {number}, got {shape}")
    if reference is not None:
        return jnp.asarray(threshold, jnp.float32) * jnp.asarray(reference, jnp.float32)
    if np.ndim(threshold):
        raise ValueError("reference: needed where each point has its own threshold; 1 = pixels")
    return jnp.asarray(threshold if threshold >= 1 else threshold * max(size), jnp.float32)


@functools.partial(jax.jit, static_argnames=("size", "upsample", "places"))
def _match(
    source: jax.Array,
    target: jax.Array,
    given: jax.Array,
    wanted: jax.Array,
    *,
    size: tuple[int, int],
    upsample: bool,
    places: tuple[CellPlaces | None, CellPlaces | None] = (None, None),
) -> tuple[jax.Array, jax.Array]:
    """Predictions (N, 2) and how far off they are (N,); NaN where a point lies outside."""
    corner = jnp.array([size[1], size[0]])
    # NaN fails the comparisons.
    inside = ((given >= 0) & (given < corner) & (wanted >= 0) & (wanted < corner)).all(-1)
    find = _find_pixels if upsample else _find_cells
    axes = [
        places_or_even(place, features.shape[:2])
        for place, features in zip(places, (source, target), strict=True)
    ]
    # A keypoint that is skipped needs some pixel to look up.
    looked_up = jnp.where(inside[:, None], given, 0.0)
    predicted = find(unit_vectors(source), unit_vectors(target), looked_up, size, axes)
    predicted = jnp.where(inside[:, None], predicted, jnp.nan)
    return predicted, jnp.sqrt(jnp.square(predicted - wanted).sum(-1))


def _find_pixels(
    source: jax.Array,
    target: jax.Array,
    points: jax.Array,
    size: tuple[int, int],
    places: Sequence[CellPlaces],
) -> jax.Array:
    """The published protocol: predicted pixels (N, 2) of points (N, 2).

    Interpolation and products are both linear: the products with cells are interpolated, so that
    features never exist for pixels.
    """
    x, y = jnp.floor(points).astype(jnp.int32).T
    here, there = places
    left, right, dx = (tap[x] for tap in _taps(here.columns, size[1]))
    upper, lower, dy = (tap[y] for tap in _taps(here.rows, size[0]))
    above = _between(source[upper, left], source[upper, right], dx[:, None])
    below = _between(source[lower, left], source[lower, right], dx[:, None])
    descriptors = _between(above, below, dy[:, None])

    def find(descriptor: jax.Array) -> jax.Array:
        products = jnp.matmul(target, descriptor, precision="highest")
        upper, lower, dy = _taps(there.rows, size[0])
        products = _between(products[upper], products[lower], dy[:, None])
        left, right, dx = _taps(there.columns, size[1])
        best = _between(products[:, left], products[:, right], dx).argmax()
        return jnp.stack([best % size[1], best // size[1]])

    return lax.map(find, descriptors, batch_size=POINTS).astype(jnp.float32)


def _find_cells(
    source: jax.Array,
    target: jax.Array,
    points: jax.Array,
    size: tuple[int, int],
    places: Sequence[CellPlaces],
) -> jax.Array:
    """Centres (N, 2) of the cells most like those in which points (N, 2) lie."""
    corner = jnp.array([size[1], size[0]], jnp.float32)
    (here, shift, _), (there, _, first) = (_along_xy(one) for one in places)
    # Just inside the border a product may be rounded to the number of cells.
    last = jnp.array([source.shape[1], source.shape[0]]) - 1
    x, y = jnp.clip(jnp.floor(points * here / corner + shift).astype(jnp.int32), 0, last).T

    def find(descriptor: jax.Array) -> jax.Array:
        best = jnp.matmul(target, descriptor, precision="highest").argmax()
        return jnp.stack([best % target.shape[1], best // target.shape[1]])

    best = lax.map(find, source[y, x], batch_size=POINTS)
    return (best + first) * corner / there


def _along_xy(places: CellPlaces) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(x, y) of: steps on the image, what brings a place to its cell's number, the first middle."""
    axes = places.columns, places.rows
    spans, firsts = (jnp.array(x, jnp.float32)
                     for x in zip(*((a.span, a.first) for a in axes), strict=True))  # fmt: skip
    return spans, 0.5 - firsts, firsts


def _taps(axis: CellAxis, pixels: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Between which two cells, and how far, each pixel's centre lies; clamped at the border."""
    where = axis.places_of(pixels)
    first = np.minimum(np.floor(where).astype(int), axis.number - 1)
    second = np.minimum(first + 1, axis.number - 1)
    return jnp.asarray(first), jnp.asarray(second), jnp.asarray(where - first, jnp.float32)


def _between(first: jax.Array, second: jax.Array, part: jax.Array) -> jax.Array:
    return first * (1 - part) + second * part
