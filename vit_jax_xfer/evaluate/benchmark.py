"""An evaluation on a data set: a FeatureExtractor goes in; figures and counts come out."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Protocol

from vit_jax_xfer.features.feature_extractor import FeatureExtractor

# Called with (done, total) as items are worked through.
Report = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """figures: shares of 1 by name, NaN where nothing was evaluated; the first is the main one.

    skipped: what was left out, in words ("keypoints"), and how many; also where it is 0.
    """

    figures: Mapping[str, float]
    skipped: Mapping[str, int]


class Benchmark(Protocol):
    """A data set with a protocol, opened and checked."""

    name: str  # before its figures in a training run's metrics, as "willow"
    size: int  # pixels of the square input, before a FeatureExtractor enlarges it
    photographs: int  # how many go through each FeatureExtractor

    def __call__(self, extractor: FeatureExtractor, report: Report | None = None) -> Result:
        """Runs the whole data set through an extractor."""
