"""One step by all of its contenders at a time: built side by side, timed by turns, one row each.

PyTorch compiles on the processor alone, so its contenders are built while ours are, which time
their products on the card as they compile and so go one after the other. All stay on the card until
the last has taken its turns. What runs out of memory in that company is tried again alone, later.
"""

import contextlib
import dataclasses
import time

from benchmarks.rounds import Row, Times, mark, ratio, spread
from benchmarks.step_case import Case, Contender, Skipped, peak_tflops
from benchmarks.step_turns import WARM_UP, Left, Ready, agree, peak, take_turns, warm_up
from benchmarks.step_worker import Worker

NO_MEMORY = ("out of memory", "resource_exhausted", "failed to allocate")


@dataclasses.dataclass(frozen=True)
class Wave:
    """A case and its contenders. alone: tried again without the others' company."""

    case: Case
    contenders: tuple[Contender, ...]
    alone: bool = False

    @property
    def name(self) -> str:
        """How progress calls it."""
        case = self.case
        head = f"{case.what}, {case.model}, {case.size} pixels, {case.batch} images"
        return f"{head}, {self.contenders[0].name} alone" if self.alone else head

    def row(self, one: Contender) -> Row:
        """What a row says before anything is measured."""
        case = self.case
        row = {"step": case.what, "model": case.model, "pixels": case.size, "batch": case.batch}
        return {**row, "contender": one.name, "alone": self.alone}

    def seconds(self) -> float:
        """About how long it takes on an H100's host: compilation, by the blocks of the network."""
        deep = 2.0 if "large" in self.case.model else 1.0
        ours = sum(one.framework == "ours" for one in self.contenders)
        compiled = any(one.fused for one in self.contenders)
        return 20.0 + deep * max(25.0 * ours, 70.0 * compiled)


def measure(wave: Wave, rounds: int, threads: int, left: Left) -> tuple[list[Row], list[Wave]]:
    """A row for each contender, and what is worth another try. left: seconds until all must end."""
    rows = {one.name: wave.row(one) for one in wave.contenders}
    with contextlib.ExitStack() as stack:
        ready = _build(wave, rows, threads, left, stack)
        warm_up(ready, rows, left)
        times = take_turns(ready, rows, rounds, left)
        for name, worker in ready.items():
            rows[name] |= peak(worker)
    gflops = wave.case.gflops()
    for one in wave.contenders:
        if times.get(one.name):
            _finish(wave, rows[one.name], one, gflops, times)
    _compare(rows)
    again = [
        Wave(wave.case, (one,), alone=True)
        for one in wave.contenders
        if not wave.alone
        and len(wave.contenders) > 1
        and any(word in rows[one.name].get("skipped", "").lower() for word in NO_MEMORY)
    ]
    return list(rows.values()), again


def _build(
    wave: Wave, rows: dict[str, Row], threads: int, left: Left, stack: contextlib.ExitStack
) -> Ready:
    """The contenders that could be built, in their order."""

    def start(one: Contender) -> Worker:
        return stack.enter_context(Worker(wave.case, one, threads))

    theirs = {one.name: start(one) for one in wave.contenders if one.framework != "ours"}
    ready = {}
    for one in sorted(wave.contenders, key=lambda one: one.framework != "ours"):
        worker = theirs.get(one.name) or start(one)
        try:
            about = worker.about(timeout=left())
        except Skipped as reason:
            rows[one.name]["skipped"] = str(reason)
            continue
        rows[one.name] |= {name.replace("_MiB", " MiB"): x for name, x in about.items()}
        if "skipped" not in about:
            ready[one.name] = worker
    return ready


def _finish(wave: Wave, row: Row, one: Contender, gflops: float, times: Times) -> None:
    """What a contender's times come to, and PyTorch's over ours, round by round."""
    own = times[one.name]
    found = {"ms": spread(own)}
    if one.framework == "ours":
        for other in wave.contenders:
            theirs = times.get(other.name, [])
            if other.framework == "torch" and theirs:
                number = min(len(own), len(theirs))  # where the time was over within a round
                head = f"× {other.name.removeprefix('torch ')}"
                found[head] = ratio(theirs[:number], own[:number])
    for name, figure in found.items():
        row |= figure.fields(name)
    row["rounds"], row["mark"] = len(own), mark(found)
    milliseconds = found["ms"].median
    rate = gflops / milliseconds  # TFLOP/s
    row["TFLOP/s"] = round(rate, 1)
    row["images/s"] = float(f"{1e3 * wave.case.batch / milliseconds:.4g}")
    if peak := peak_tflops(row.get("device", ""), one.multiplies_in):
        row["MFU %"] = round(100 * rate / peak, 1)


def _compare(rows: dict[str, Row]) -> None:
    """Whether first values agree with those of the first in float32, or of the first at all."""
    values = {name: row.get("first values", []) for name, row in rows.items()}
    whole = [name for name, found in values.items() if len(found) == WARM_UP]
    exact = [name for name in whole if "float32" in name] or whole
    for name in whole:
        rows[name]["agrees"] = agree(name, values[name], exact[0], values[exact[0]])


def seconds_left(budget: float) -> Left:
    """A clock that counts down from now."""
    end = time.monotonic() + budget
    return lambda: end - time.monotonic()
