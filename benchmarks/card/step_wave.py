"""One step by all of its contenders at a time: built side by side, timed by turns, one row each.

PyTorch compiles on the processor alone, so its contenders are built while ours are, which time
their products on the card as they compile and so go one after the other. All stay on the card until
the last has taken its turns. What runs out of memory in that company is tried again alone, later.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable

from benchmarks.rounds import Row, Times, mark, ratio, spread
from benchmarks.step_case import Case, Contender, Skipped, peak_tflops
from benchmarks.step_worker import Worker

WARM = 3  # steps whose values are compared
# How far values may be from those of the first contender in float32, or of the first at all.
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}
NO_MEMORY = ("out of memory", "resource_exhausted", "failed to allocate")

Left = Callable[[], float]  # seconds


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
        values = _warm(ready, rows, left)
        times = _take_turns(ready, rows, rounds, left)
        for name, worker in ready.items():
            with contextlib.suppress(Skipped, OSError):
                peak = worker.peak_bytes()
                rows[name]["peak MiB"] = None if peak is None else round(peak / 2**20)
    gflops = wave.case.gflops()
    for one in wave.contenders:
        if times.get(one.name):
            _finish(wave, rows[one.name], one, gflops, times)
    _compare(wave, rows, values)
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
) -> dict[str, Worker]:
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


def _warm(ready: dict[str, Worker], rows: dict[str, Row], left: Left) -> dict[str, list[float]]:
    """The first values of each, which takes its memory for good; what fails is out of `ready`."""
    values: dict[str, list[float]] = {}
    for name, worker in list(ready.items()):
        try:
            values[name] = [worker.step(timeout=left())[1] for _ in range(WARM)]
        except Skipped as reason:
            rows[name]["skipped"] = str(reason)
            ready.pop(name).__exit__()
    return values


def _take_turns(ready: dict[str, Worker], rows: dict[str, Row], rounds: int, left: Left) -> Times:
    """Milliseconds of each contender's steps, by turns, as many rounds as there is time for."""
    times: Times = {name: [] for name in ready}
    for turn in range(rounds):
        for name in list(ready) if turn % 2 else reversed(list(ready)):
            if left() <= 0:
                return times
            try:
                times[name].append(1e3 * ready[name].step(timeout=left())[0])
            except Skipped as reason:
                rows[name]["skipped"] = str(reason)
                ready.pop(name).__exit__()
                times.pop(name)
    return times


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


def _compare(wave: Wave, rows: dict[str, Row], values: dict[str, list[float]]) -> None:
    """Whether first values agree."""
    exact = [name for name in values if "float32" in name] or list(values)
    for one in wave.contenders:
        if one.name not in values:
            continue
        wanted = values[exact[0]]
        pairs = zip(values[one.name], wanted, strict=True)
        part = max(abs(got - want) / max(abs(want), 1e-9) for got, want in pairs)
        loosest = {one.dtype, "bfloat16" if "bfloat16" in exact[0] else "float32"}
        tolerance = max(TOLERANCES[dtype] for dtype in loosest)
        rows[one.name]["first values"] = [round(x, 5) for x in values[one.name]]
        rows[one.name]["agrees"] = part <= tolerance  # not of NaN


def seconds_left(budget: float) -> Left:
    """A clock that counts down from now."""
    end = time.monotonic() + budget
    return lambda: end - time.monotonic()
