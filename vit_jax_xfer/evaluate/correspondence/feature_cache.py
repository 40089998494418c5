"""Features of photographs, computed once as far as memory goes."""

import collections
from collections.abc import Callable, Sequence
from pathlib import Path

import jax

from vit_jax_xfer.evaluate.correspondence.keypoint_pair import KeypointPair

BYTES = 1 << 30


class FeatureCache:
    """compute(path) of the photographs asked for last; as many as `limit` bytes hold, at least two.

    All photographs' features have one shape.
    """

    def __init__(self, compute: Callable[[Path], jax.Array], limit: int = BYTES) -> None:
        self._compute = compute
        self._limit = limit
        self._kept: collections.OrderedDict[Path, jax.Array] = collections.OrderedDict()
        self.computed = 0

    def __call__(self, path: Path) -> jax.Array:
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        features = self._compute(path)
        self.computed += 1
        while self._kept and len(self._kept) >= self.capacity(features):
            self._kept.popitem(last=False)
        self._kept[path] = features
        return features

    def capacity(self, features: jax.Array) -> int:
        """How many such features are kept."""
        return max(self._limit // features.nbytes, 2)


def in_blocks(pairs: Sequence[KeypointPair], capacity: int) -> list[KeypointPair]:
    """The pairs of each category in an order in which few photographs come back much later.

    Blocks of photographs are paired with blocks, of which two at a time fit the cache.
    """
    block = max(capacity // 2, 1)
    places: dict[str, dict[Path, int]] = {}
    for pair in pairs:
        numbers = places.setdefault(pair.category, {})
        for path in (pair.source, pair.target):
            numbers.setdefault(path, len(numbers))

    def key(pair: KeypointPair) -> tuple[str, int, int, int, int]:
        numbers = places[pair.category]
        source, target = numbers[pair.source], numbers[pair.target]
        return pair.category, source // block, target // block, source, target

    return sorted(pairs, key=key)
