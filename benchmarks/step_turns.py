"""Contenders' steps by turns: first ones, whose values are compared, then those that are timed."""

import math
from collections.abc import Callable, Sequence

from benchmarks.rounds import Row, Times
from benchmarks.step_case import Skipped
from benchmarks.step_worker import Worker

WARM_UP = 3  # steps, whose values are compared
# How far values may be from another contender's, where one of both multiplies in this type.
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}

Ready = dict[str, Worker]
Left = Callable[[], float]  # seconds until all must end


def warm_up(ready: Ready, rows: dict[str, Row], left: Left | None = None) -> None:
    """First steps, which take each one's memory for good; their values go to "first values"."""
    for _ in range(WARM_UP):
        for name in list(ready):
            found = _step(name, ready, rows, left)
            if found:
                rows[name].setdefault("first values", []).append(round(found[1], 5))


def take_turns(ready: Ready, rows: dict[str, Row], rounds: int, left: Left | None = None) -> Times:
    """Milliseconds of steps by turns, as many rounds as there is time for, of those who took all.

    The order turns round, so that none has always the same neighbour before it.
    """
    times: Times = {name: [] for name in ready}
    for turn in range(rounds):
        for name in list(ready) if turn % 2 else reversed(list(ready)):
            if left and left() <= 0:
                return times
            found = _step(name, ready, rows, left)
            if found:
                times[name].append(1e3 * found[0])
            else:
                del times[name]
    return times


def _step(
    name: str, ready: Ready, rows: dict[str, Row], left: Left | None
) -> tuple[float, float] | None:
    """Seconds and value; None of one that fails, which says why, and ends, and is ready no more."""
    try:
        return ready[name].step(timeout=left() if left else None)
    except Skipped as reason:
        rows[name]["skipped"] = str(reason)
        ready.pop(name).__exit__()
        return None


def peak(worker: Worker) -> Row:
    """A row's field of the most memory that a contender's steps took; {} of one that failed."""
    try:
        found = worker.peak_bytes()
    except Skipped:
        return {}
    return {"peak MiB": None if found is None else round(found / 2**20)}


def agree(name: str, values: Sequence[float], other: str, wanted: Sequence[float]) -> bool:
    """Whether first values of two contenders, by their names, are as near as their types allow."""
    tolerance = TOLERANCES["bfloat16" if "bfloat16" in name + other else "float32"]
    pairs = zip(values, wanted, strict=True)
    return all(math.isclose(*pair, rel_tol=tolerance) for pair in pairs)  # not of NaN
