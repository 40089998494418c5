"""Dense features made visible: their principal components as colours, and what resembles a point.

As in the figures of Oquab et al. (DINOv2, 2304.07193) and Suri et al. (LiFT, 2403.14625).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vit_jax_xfer.models.cell_places import CellPlaces, places_or_even

_TAILS = (1, 99)  # percentiles of a component that are darkest and lightest
_GREY = 128
_CELLS = 4096  # of a map that a basis is found from
_ALL_CELLS, _FEWEST = 16 * _CELLS, 64  # of all maps together, but of each some


class ColourBasis(NamedTuple):
    """mean (C,), axes (C, 3) and low, high (3,), which values lie between; an axis of 0 is none."""

    mean: np.ndarray
    axes: np.ndarray
    low: np.ndarray
    high: np.ndarray


def colour_basis(
    maps: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None = None
) -> ColourBasis:
    """The first three principal components of maps (h, w, C) of one C, which count the same.

    masks: (h, w) bool of each, the cells that are looked at; None = all. Of features over their
    lengths, since it is the cosine by which they are compared. Of a large map, or many, cells at
    even steps are taken. Signs are such that the largest entry of an axis is positive.
    ValueError for maps of several C and for values not finite.
    """
    if len({features.shape[-1] for features in maps}) != 1:
        widths = sorted({features.shape[-1] for features in maps})
        raise ValueError(f"maps: expected one or more of the same C, got {widths}")
    most = max(_FEWEST, min(_CELLS, _ALL_CELLS // len(maps)))
    rows = []
    for number, features in enumerate(maps):
        cells = unit_features(features).reshape(-1, features.shape[-1])
        cells = cells if masks is None else cells[np.ravel(masks[number])]
        if len(cells):
            rows.append(cells[:: -(-len(cells) // most)])
    if not rows:
        raise ValueError("masks: no cell is left; lower the threshold")
    mean = np.mean([row.mean(0) for row in rows], axis=0)
    spread = np.mean([(row - mean).T @ (row - mean) / len(row) for row in rows], axis=0)
    values, vectors = np.linalg.eigh(spread)
    axes = np.zeros((len(mean), 3))
    number = min(3, len(mean))
    # What is left of a lower rank is rounding.
    seen = values[::-1][:number] > 1e-10
    axes[:, :number] = vectors[:, ::-1][:, :number] * seen
    largest = np.take_along_axis(axes, np.abs(axes).argmax(0)[None], 0)
    axes *= np.where(largest < 0, -1, 1)
    shown = np.concatenate([(row - mean) @ axes for row in rows])
    low, high = np.percentile(shown, _TAILS, axis=0)
    return ColourBasis(mean, axes, low, high)


class Foreground(NamedTuple):
    """mean (C,), axis (C,): a first principal component; low, high: its values lie between.

    threshold: a cell whose value, as a share of that range, is above it is foreground.
    """

    mean: np.ndarray
    axis: np.ndarray
    low: float
    high: float
    threshold: float

    def mask(self, features: np.ndarray) -> np.ndarray:
        """Which cells of features (h, w, C) are foreground: (h, w) bool."""
        values = (unit_features(features) - self.mean) @ self.axis
        return (values - self.low) > self.threshold * (self.high - self.low)


def foreground_of(maps: Sequence[np.ndarray], threshold: float) -> Foreground:
    """The first principal component of maps (h, w, C), by which things part from what is behind.

    Its sign is such that cells at the images' borders, which are mostly behind, have lower values
    in the mean. threshold: from 0 to 1. As in the figures of DINOv2. ValueError as `colour_basis`.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"foreground: got {threshold:g}, expected a share from 0 to below 1")
    basis = colour_basis(maps)
    axis, borders, all_cells = basis.axes[:, 0], [], []
    for features in maps:
        values = (unit_features(features) - basis.mean) @ axis
        borders += [values[0], values[-1], values[1:-1, 0], values[1:-1, -1]]
        all_cells.append(values.ravel())
    values = np.concatenate(all_cells)
    low, high = np.percentile(values, _TAILS)
    if np.concatenate(borders).mean() > values.mean():
        axis, low, high = -axis, -high, -low
    return Foreground(basis.mean, axis, float(low), float(high), threshold)


def pca_colours(features: np.ndarray, basis: ColourBasis | None = None) -> np.ndarray:
    """Features (h, w, C) → (h, w, 3) uint8: the first three components as red, green and blue.

    basis: of several maps, so that their colours mean the same; None = of this one alone. A
    component that doesn't vary is 128.
    """
    basis = colour_basis([features]) if basis is None else basis
    shown = (unit_features(features) - basis.mean) @ basis.axes
    width = basis.high - basis.low
    share = np.divide(shown - basis.low, width, out=np.zeros_like(shown), where=width > 1e-12)
    colours = np.round(np.clip(share, 0, 1) * 255)
    return np.where(width > 1e-12, colours, _GREY).astype(np.uint8)


def self_similarity(
    features: np.ndarray,
    point: tuple[float, float] = (0.5, 0.5),
    places: CellPlaces | None = None,
) -> np.ndarray:
    """The cosine of every cell of features (h, w, C) with the one at a point: (h, w) float32.

    point: (x, y) as shares of the width and height; the middle is cell (h // 2, w // 2). places:
    where cells lie, of patches that overlap. ValueError for a point outside.
    """
    unit = unit_features(features)
    row, column = cell_at(point, features.shape[:2], places)
    return np.clip(unit @ unit[row, column], -1, 1).astype(np.float32)


def cell_at(
    point: tuple[float, float], grid: tuple[int, int], places: CellPlaces | None = None
) -> tuple[int, int]:
    """The (row, column) of a grid (h, w) in which a point (x, y) lies, given as shares of 1."""
    x, y = point
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f"point: ({x:g}, {y:g}) is outside the image; expected shares from 0 to 1")
    rows, columns = places_or_even(places, grid)
    return rows.cell_at(y), columns.cell_at(x)


def unit_features(features: np.ndarray) -> np.ndarray:
    """Features (h, w, C) over their lengths, float64; zeros stay. ValueError for NaN."""
    features = np.asarray(features, np.float64)
    if features.ndim != 3 or not features.size:
        raise ValueError(f"features: expected (h, w, C), none of them 0, got {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError("features: some values are NaN or infinite; expected none")
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)
