"""Pairs of cells of two images that are each other's nearest, as plain arrays.

Amir et al. 2021, Deep ViT Features as Dense Visual Descriptors (2112.05814); which pairs are kept,
so that they are spread over both images, is this project's own rule.
"""

from typing import NamedTuple

import numpy as np

from vit_jax_xfer.arguments.array_checks import require_equal, require_features

_ROWS = 1024  # of cosines at a time
# How far apart pairs are kept, as shares of the images' sides: the widest that gives enough.
_SPACINGS = (0.5, 0.35, 0.25, 0.18, 0.13, 0.09, 0.06, 0.04, 0.02, 0.0)


class Buddies(NamedTuple):
    """source, target: (N, 2) int, rows and columns of cells. cosine: (N,) float32, falling."""

    source: np.ndarray
    target: np.ndarray
    cosine: np.ndarray


def best_buddies(
    source: np.ndarray,
    target: np.ndarray,
    source_mask: np.ndarray | None = None,
    target_mask: np.ndarray | None = None,
) -> Buddies:
    """Cells of source (h, w, C) and target (h', w', C) that are each other's nearest by cosine.

    source_mask, target_mask: bool, the cells that may be in a pair; None = all. ValueError for
    features that don't fit each other, or aren't finite. Of several equally near the first counts.
    """
    for name, features in (("source", source), ("target", target)):
        require_features(name, np.asarray(features), "(h, w, C)")
    require_equal("target", target.shape[-1], source.shape[-1], "source's C")
    here, there = _cells(source, source_mask), _cells(target, target_mask)
    if not len(here[0]) or not len(there[0]):
        return Buddies(np.zeros((0, 2), int), np.zeros((0, 2), int), np.zeros(0, np.float32))
    forward, cosine = _nearest_of(here[0], there[0])
    back, _ = _nearest_of(there[0], here[0])
    mutual = np.flatnonzero(back[forward] == np.arange(len(forward)))
    order = mutual[np.argsort(-cosine[mutual], kind="stable")]
    return Buddies(here[1][order], there[1][forward[order]], cosine[order])


def spread_out(
    buddies: Buddies, grids: tuple[tuple[int, int], tuple[int, int]], number: int
) -> Buddies:
    """At most `number` pairs, by falling cosine, as far apart in both images as leaves so many.

    grids: (h, w) of the source's and the target's cells.
    """
    places = [cells / np.asarray(grid) for cells, grid in zip(buddies[:2], grids, strict=True)]
    kept: list[int] = []
    for spacing in _SPACINGS:
        kept = []
        for i in range(len(buddies.cosine)):
            near = [np.abs(place[kept] - place[i]).max(1) < spacing for place in places]
            if not (near[0] | near[1]).any():
                kept.append(i)
            if len(kept) == number:
                return Buddies(*(part[kept] for part in buddies))
    return Buddies(*(part[kept] for part in buddies))


def _cells(features: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Unit features (n, C) of the chosen cells, and their rows and columns (n, 2)."""
    mask = np.ones(features.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    require_equal("mask", mask.shape, features.shape[:2], "its features")
    chosen = np.asarray(features, np.float32)[mask]
    length = np.linalg.norm(chosen, axis=1, keepdims=True)
    return chosen / np.maximum(length, 1e-12), np.argwhere(mask)


def _nearest_of(cells: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each cell the number of the other of the greatest cosine, and that."""
    best, cosine = [], []
    for start in range(0, len(cells), _ROWS):
        cosines = cells[start : start + _ROWS] @ others.T
        best.append(cosines.argmax(1))
        cosine.append(np.take_along_axis(cosines, best[-1][:, None], 1)[:, 0])
    return np.concatenate(best), np.concatenate(cosine)
