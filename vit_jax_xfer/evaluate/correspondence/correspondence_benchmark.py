"""Keypoint correspondence on a data set: which share of keypoints arrives (PCK).

LiFT's evaluation, arXiv 2403.14625: letterboxed photographs, features interpolated to pixels,
thresholds of the target's box, keypoints pooled in a category and categories averaged.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np

from vit_jax_xfer.arguments.array_checks import require_finite
from vit_jax_xfer.evaluate.benchmark import ItemBenchmark, Report, Result
from vit_jax_xfer.evaluate.correspondence.feature_cache import BYTES, FeatureCache, in_blocks
from vit_jax_xfer.evaluate.correspondence.keypoint_layouts import open_pairs
from vit_jax_xfer.evaluate.correspondence.keypoint_matching import Matches, pck, pck_score
from vit_jax_xfer.evaluate.correspondence.keypoint_pair import KeypointPair, draw
from vit_jax_xfer.evaluate.correspondence.letterbox import letterbox, placement
from vit_jax_xfer.evaluate.photographs import places_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.cell_places import CellPlaces

ALPHAS = (0.1, 0.05, 0.01)

# A pair's category, and its matches at each of ALPHAS.
Outcome = tuple[str, dict[float, Matches]]
# Called with (extractor, pair, its matches at each of ALPHAS).
PairScored = Callable[[FeatureExtractor, KeypointPair, dict[float, Matches]], None]


def open_correspondence(
    data: str, size: int, limit: int | None = None, pairs_per_category: int | None = None
) -> "Correspondence":
    """The benchmark of what `open_pairs` takes, as "spair:PATH"; limits as in `draw`, None = all.

    ValueError naming the file that isn't as it should be.
    """
    name, pairs = open_pairs(data)
    benchmark = Correspondence(name, draw(pairs, pairs_per_category, limit), size)
    if not benchmark.items:
        raise ValueError(f"data: {data}: no pair has a keypoint that both photographs show")
    return benchmark


class Correspondence(ItemBenchmark):
    """Figures PCK@0.1, PCK@0.05 and PCK@0.01, means over categories, of pairs of photographs.

    A FeatureExtractor gets squares of `side(size)` pixels, in which distances are measured.
    Skipped: keypoints that aren't inside of both photographs, and pairs without any keypoint that
    could be scored, whose keypoints are counted too. A category without a keypoint isn't averaged.
    cache_bytes: of features that are kept. pair_scored: called with each pair's matches.
    """

    def __init__(
        self,
        name: str,
        pairs: Sequence[KeypointPair],
        size: int,
        cache_bytes: int = BYTES,
        pair_scored: PairScored | None = None,
    ) -> None:
        self.name = name
        self.size = size
        self._cache_bytes = cache_bytes
        self.pair_scored = pair_scored
        # Of a box without extent no part is a distance.
        self._pairs = [pair for pair in pairs if pair.shown.any() and pair.reference > 0]
        self._pairs_skipped = len(pairs) - len(self._pairs)
        points = sum(len(pair.shown) for pair in pairs)
        self._points_skipped = points - sum(len(pair.shown) for pair in self._pairs)

    @property
    def photographs(self) -> int:
        """How many different ones the pairs have."""
        return len({photo for pair in self._pairs for photo in (pair.source, pair.target)})

    @property
    def items(self) -> int:
        """Pairs that could be scored."""
        return len(self._pairs)

    def outcomes(
        self, extractor: FeatureExtractor, part: range, report: Report | None = None
    ) -> list[Outcome]:
        """Runs some pairs; the photographs' features are computed one by one."""
        side = extractor.side(self.size)

        def features_of(path: Path) -> jax.Array:
            found = extractor(letterbox(path, side)[None])[0]
            require_finite(f"{path}: features", found)
            return found

        cache = FeatureCache(features_of, self._cache_bytes)
        pairs: Sequence[KeypointPair] = self._pairs[part.start : part.stop]
        if pairs:
            pairs = in_blocks(pairs, cache.capacity(cache(pairs[0].source)))
        outcomes: list[Outcome] = []
        for done, pair in enumerate(pairs, start=1):
            source, target = cache(pair.source), cache(pair.target)
            places = [places_of(extractor, x.shape[:2], side) for x in (source, target)]
            found = _transfer(source, target, pair, side, places)
            outcomes.append((pair.category, found))
            if self.pair_scored is not None:
                self.pair_scored(extractor, pair, found)
            if report is not None:
                report(done, len(pairs))
        return outcomes

    def result(self, outcomes: Sequence[Outcome]) -> Result:
        """Means over categories, and what was left out."""
        matches: dict[float, dict[str, list[Matches]]] = {alpha: {} for alpha in ALPHAS}
        for category, found in outcomes:
            for alpha in ALPHAS:
                matches[alpha].setdefault(category, []).append(found[alpha])
        scores = {alpha: pck_score(matches[alpha]) for alpha in ALPHAS}
        return Result(
            {f"PCK@{alpha}": score.mean for alpha, score in scores.items()},
            {
                "keypoints": scores[ALPHAS[0]].skipped + self._points_skipped,
                "pairs": self._pairs_skipped,
            },
        )


def _transfer(
    source: jax.Array,
    target: jax.Array,
    pair: KeypointPair,
    side: int,
    places: Sequence[CellPlaces],
) -> dict[float, Matches]:
    """The matches of a pair at each threshold."""
    there = placement(pair.target_size, side)
    given = placement(pair.source_size, side).points(pair.source_points).astype(np.float32)
    wanted = there.points(pair.target_points).astype(np.float32)
    reference = pair.reference * there.scale
    found = pck(
        source, target, given, wanted, side, ALPHAS[0], reference,
        source_places=places[0], target_places=places[1],
    )  # fmt: skip
    predicted = np.asarray(found.predicted)
    # Keypoints are looked for once, whatever the number of thresholds.
    error = np.linalg.norm(predicted - wanted, axis=1)
    return {alpha: Matches(error < alpha * reference, predicted) for alpha in ALPHAS}
