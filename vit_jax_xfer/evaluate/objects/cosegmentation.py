"""What several images have in common, cut out of each: clusters of all their features together.

After Amir et al. 2021, Deep ViT Features as Dense Visual Descriptors (2112.05814): clusters by
k-means, of which those that most images show are the object. What is salient is told there by the
class token's attention; here by where cells lie, so that any features will do: what is behind an
object reaches the images' borders.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from vit_jax_xfer.arguments.array_checks import require_features

_ELBOW = 0.975  # more clusters are tried while they bring the distance below this share
MOST_CLUSTERS = 15
_ROUNDS, _STARTS = 25, 5
_CELLS = 65536  # of all images that clusters are found from
_BORDER = 0.5  # a cluster that lies on borders more than half as often as cells do is behind


class CommonObjects(NamedTuple):
    """masks: (h, w) bool of each image, the common object. clusters: (h, w) int of each, which
    cluster each cell is in. common: the clusters that are the object, rising. number: of all."""

    masks: list[np.ndarray]
    clusters: list[np.ndarray]
    common: tuple[int, ...]
    number: int


def cosegment(
    maps: Sequence[np.ndarray],
    clusters: int | None = None,
    votes: float = 0.75,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
) -> CommonObjects:
    """The common object of images with features (h, w, C), of one C.

    clusters: how many; None = as many as bring something. votes: the share of the images that must
    show a cluster, in a hundredth of their cells. Always the same for one seed. report: is told how
    many clusters were tried, after each number of them. ValueError for fewer than two images,
    features that aren't finite, and where no cluster is common.
    """
    if len(maps) < 2:
        raise ValueError(f"maps: got {len(maps)} images, expected two or more")
    if not 0 < votes <= 1 or (clusters is not None and clusters < 2):
        raise ValueError("votes, clusters: expected a share above 0, and two clusters or more")
    units = [_unit(features, f"maps[{n}]") for n, features in enumerate(maps)]
    rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in units])
    rows = rows[:: -(-len(rows) // _CELLS)]
    centres = _centres(rows, clusters, seed, report or (lambda tried: None))
    found = [(one @ centres.T).argmax(-1) for one in units]
    common = _common(found, len(centres), votes)
    if not common:
        raise ValueError("no cluster is on enough of the images and off their borders; lower votes")
    masks = [np.isin(one, common) for one in found]
    return CommonObjects(masks, found, common, len(centres))


def _common(found: Sequence[np.ndarray], number: int, votes: float) -> tuple[int, ...]:
    """The clusters that enough images show and that keep off the borders."""
    total, at_border, shown = (np.zeros(number) for _ in range(3))
    for cells in found:
        counts = np.bincount(cells.ravel(), minlength=number)
        border = np.concatenate([cells[0], cells[-1], cells[1:-1, 0], cells[1:-1, -1]])
        total += counts
        at_border += np.bincount(border, minlength=number)
        shown += counts > 0.01 * cells.size
    usual = at_border.sum() / total.sum()
    inside = at_border < _BORDER * usual * total
    return tuple(np.flatnonzero(inside & (shown >= votes * len(found))).tolist())


def _centres(
    rows: np.ndarray, number: int | None, seed: int, report: Callable[[int], None]
) -> np.ndarray:
    """Centres (k, C) of length 1 of k-means by cosine."""
    if number is not None:
        return _k_means(rows, number, seed)[0]
    centres, distance = _k_means(rows, 2, seed)
    report(2)
    for more in range(3, MOST_CLUSTERS + 1):
        others, less = _k_means(rows, more, seed)
        report(more)
        if less > _ELBOW * distance:
            break
        centres, distance = others, less
    return centres


def _k_means(rows: np.ndarray, number: int, seed: int) -> tuple[np.ndarray, float]:
    """Centres (k, C), and the mean of 1 - cosine to the nearest: the best of several beginnings."""
    found = [_one_k_means(rows, number, np.random.default_rng([seed, n])) for n in range(_STARTS)]
    return min(found, key=lambda one: one[1])


def _one_k_means(
    rows: np.ndarray, number: int, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """The same from one draw of centres far from each other."""
    centres = rows[[rng.integers(len(rows))]]
    for _ in range(number - 1):
        far = np.maximum(1 - (rows @ centres.T).max(1), 0)
        weight = far / far.sum() if far.sum() > 0 else None
        centres = np.concatenate([centres, rows[[rng.choice(len(rows), p=weight)]]])
    nearest = None
    for _ in range(_ROUNDS):
        cosines = rows @ centres.T
        found = cosines.argmax(1)
        if nearest is not None and (found == nearest).all():
            break
        nearest = found
        # A product, since picking rows by cluster copies all of them in every round.
        belongs = (found == np.arange(number)[:, None]).astype(rows.dtype)
        sums = np.where(belongs.any(1, keepdims=True), belongs @ rows, centres)
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
    return centres, float(1 - (rows @ centres.T).max(1).mean())


def _unit(features: np.ndarray, name: str) -> np.ndarray:
    require_features(name, np.asarray(features), "(h, w, C)")
    features = np.asarray(features, np.float32)
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), 1e-12)
