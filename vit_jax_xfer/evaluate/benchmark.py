"""An evaluation on a data set: a FeatureExtractor goes in; figures and counts come out."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

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


@dataclasses.dataclass(frozen=True)
class Together:
    """Which of how many processes this is that measure a benchmark, and how they exchange.

    exchange: takes this process's thing, gives those of all in their order; all call it alike.
    """

    index: int = 0
    number: int = 1
    exchange: Callable[[Any], list[Any]] = lambda thing: [thing]

    def gathered(
        self, compute: Callable[[], list[Any]], through: tuple[type[BaseException], ...] = ()
    ) -> list[Any]:
        """What `compute` gives on each process, one list after the other, on all of them.

        ValueError, on all alike, where it raises on one: the others wait for its part. through:
        what all raise in the same place, and which goes on its way.
        """
        if self.number == 1:
            return compute()
        found: list[Any] | str
        try:
            found = compute()
        except through:
            raise
        except Exception as error:
            found = str(error)
        parts = self.exchange(found)
        for part in parts:
            if isinstance(part, str):
                raise ValueError(part)
        return [one for part in parts for one in part]


ALONE = Together()


class Benchmark(Protocol):
    """A data set with a protocol, opened and checked."""

    name: str  # before its figures in a training run's metrics, as "willow"
    size: int  # pixels of the square input, before a FeatureExtractor enlarges it
    photographs: int  # how many go through each FeatureExtractor

    def seconds_besides(self, extractor: FeatureExtractor) -> float:
        """About how long what is done with the features takes; 0 where it isn't known or little."""
        return 0.0

    def __call__(self, extractor: FeatureExtractor, report: Report | None = None) -> Result:
        """Runs the whole data set through an extractor."""


class ItemBenchmark(Benchmark, Protocol):
    """A benchmark of items (pairs, videos, images), of which each process may measure a part."""

    @property
    def items(self) -> int:
        """How many there are."""

    def among(self, together: Together) -> Self:
        """The benchmark for one of several processes that also share what isn't of one item."""
        return self

    def reports(self, part: range) -> int:
        """How often `outcomes` reports for a part, at most."""
        return len(part)

    def outcomes(
        self, extractor: FeatureExtractor, part: range, report: Report | None = None
    ) -> list[Any]:
        """What a part of the items came to, of numbers and arrays; of parts in order, in order."""

    def result(self, outcomes: Sequence[Any]) -> Result:
        """The figures of all items' outcomes."""

    def __call__(self, extractor: FeatureExtractor, report: Report | None = None) -> Result:
        """Runs the whole data set through an extractor."""
        return self.result(self.outcomes(extractor, range(self.items), report))


def parts_of(benchmark: ItemBenchmark, number: int) -> list[range]:
    """The items in so many parts that follow one another, as even as their reports allow."""
    work = [benchmark.reports(range(i)) for i in range(benchmark.items + 1)]
    total = work[-1] - work[0]
    # An item belongs to the part in which its middle lies.
    middles = [(a + b) / 2 - work[0] for a, b in itertools.pairwise(work)]
    ends = [sum(at < total * k / number for at in middles) for k in range(number + 1)]
    return [range(*pair) for pair in itertools.pairwise([*ends[:-1], benchmark.items])]
