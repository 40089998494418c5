"""Contenders timed by turns, and what their rounds come to: medians, ratios with their spread.

A ratio is taken within each round, where both contenders met the same machine, and its spread is
from the 10th to the 90th percentile of all rounds. Over WIDEST of the median, or of fewer than
FEWEST rounds, a figure is marked: another run would give another one.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from benchmarks.shared_flags import FEWEST, WIDEST
from vit_jax_xfer.explain.progress import Progress

# Thread pools wait actively for a while after a call, which would slow the next contender.
REST_S = 0.02

Times = dict[str, list[float]]  # milliseconds of each round
Row = dict[str, Any]


class Spread(NamedTuple):
    """The median of a figure's rounds, and the 10th and 90th percentile."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def width(self) -> float:
        """From low to high, as a share of the median."""
        return (self.high - self.low) / self.median

    def fields(self, name: str) -> Row:
        """A row's fields of it: NAME, NAME_p10, NAME_p90."""
        places = 3 if self.median < 10 else 1
        values = dict(zip((name, f"{name}_p10", f"{name}_p90"), self, strict=False))
        return {field: round(value, places) for field, value in values.items()}


def alternate(contenders: dict[str, Callable[[], Any]], rounds: int) -> Times:
    """Milliseconds of each contender's calls, by turns; each turn is one call untimed, one timed.

    A contender returns when its work is done; one with a method `seconds` times itself. The order
    turns round, so that none has always the same neighbour before it.
    """
    times: Times = {name: [] for name in contenders}
    names = list(contenders)
    with Progress(rounds + 1, "rounds") as progress:
        for turn in range(rounds + 1):
            for name in names if turn % 2 else reversed(names):
                seconds = taken(contenders[name])
                if turn:  # the first round warms up
                    times[name].append(1e3 * seconds)
                time.sleep(REST_S)
            progress.report(turn + 1)
    return times


def taken(contender: Callable[[], Any]) -> float:
    """Seconds of a call, after one that is not timed."""
    if hasattr(contender, "seconds"):
        return contender.seconds()
    contender()
    begin = time.perf_counter()
    contender()
    return time.perf_counter() - begin


def spread(values: Iterable[float]) -> Spread:
    """Of a figure's rounds. ValueError without any."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("a spread of no rounds")
    last = len(ordered) - 1
    low, high = (ordered[round(part * last)] for part in (0.1, 0.9))
    return Spread(statistics.median(ordered), low, high, len(ordered))


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """`over` ÷ `under`, round by round. ValueError where their numbers of rounds differ."""
    return spread(one / other for one, other in zip(over, under, strict=True))


def mark(found: dict[str, Spread], widest: float = WIDEST) -> str:
    """What is wrong with figures {name: spread}: too wide, or of too few rounds; "" = nothing."""
    wide = [f"{name} {one.width:.0%}" for name, one in found.items() if not one.width <= widest]
    few = min((one.rounds for one in found.values()), default=FEWEST)
    said = [f"too wide: {', '.join(wide)}"] if wide else []
    return "; ".join(said + ([f"{few} rounds"] if few < FEWEST else []))


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median, least, and the 10th and 90th of a hundred, in ms."""
    found = spread(times)
    figures = {
        "median_ms": found.median,
        "min_ms": min(times),
        "p10_ms": found.low,
        "p90_ms": found.high,
    }
    return {name: round(value, 2) for name, value in figures.items()} | {"n": found.rounds}


def markdown(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A table of the rows; a column that a row does not have stays empty, a spread is one cell."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(_cell(row, column) for column in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(row: Row, column: str) -> str:
    text = str(row.get(column, ""))
    if f"{column}_p10" not in row:
        return text
    return f"{text} ({row[f'{column}_p10']}–{row[f'{column}_p90']})"
