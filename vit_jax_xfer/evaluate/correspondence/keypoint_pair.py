"""Two photographs of one kind of thing with the keypoints that both show, and a draw of such."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class KeypointPair:
    """source_points, target_points: (N, 2) float64, x and y in pixels of each photograph, pixel i
    covering i to i + 1; NaN where the keypoint lies outside of its photograph or isn't known.

    source_size, target_size: (width, height). reference: of PCK, the longer side of the target's
    box in pixels.
    """

    category: str
    source: Path
    target: Path
    source_points: np.ndarray
    target_points: np.ndarray
    source_size: tuple[int, int]
    target_size: tuple[int, int]
    reference: float

    @property
    def shown(self) -> np.ndarray:
        """(N,) bool: the keypoints that both photographs show."""
        return np.isfinite(self.source_points).all(1) & np.isfinite(self.target_points).all(1)


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Points (N, 2), NaN where they aren't inside of a photograph of (width, height)."""
    within = ((points >= 0) & (points < np.asarray(size))).all(1, keepdims=True)
    return np.where(within, points, np.nan)


def draw(
    pairs: Sequence[KeypointPair],
    per_category: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> list[KeypointPair]:
    """At most per_category pairs of each category and `limit` in all, in their order.

    Drawn without replacement, by a seed and the category's name; a limit takes the same number of
    each category, give or take one.
    """
    places: dict[str, list[int]] = {}
    for place, pair in enumerate(pairs):
        places.setdefault(pair.category, []).append(place)
    ranked = []
    for category, members in places.items():
        order = np.random.default_rng([seed, *category.encode()]).permutation(len(members))
        ranked += [(rank, members[which]) for rank, which in enumerate(order[:per_category])]
    return [pairs[place] for place in sorted(place for _, place in sorted(ranked)[:limit])]
