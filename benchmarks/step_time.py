"""Where a step's time goes on one CPU core, by kind of operation and by place in the network.

    python -m benchmarks.step_time --model vit_small_patch16 --step scratch --batch 8

On one core no two operations overlap, so that times can be added up. Two tables, or --json.
"""

import argparse
import collections
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.step_case import WHATS, Case, contender

# An operation of a compiled program: "%name = shape kind(…", and where its line says what it calls
# and which line of ours it comes from.
_OPERATION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = .*? ([\w\-]+)\(")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLS = re.compile(r"calls=%?([\w.\-]+)")
_SOURCE = re.compile(r'op_name="([^"]+)"')
# Libraries, by the beginning of a fusion's name.
_LIBRARIES = {"onednn": "oneDNN", "ynn": "YNNPACK"}
_MOVES = {"copy", "transpose", "bitcast", "reshape", "slice", "concatenate", "pad", "broadcast"}
_BESIDE = {"parameter", "constant", "tuple"}
# Their time is that of the operations that they hold, which are counted by themselves.
_HOLDERS = {"while", "conditional", "call"}


class Operation(NamedTuple):
    """What an operation does, and in which part of the step."""

    kind: str
    place: str


def operations_of(program: str) -> dict[str, Operation]:
    """{name: what it is} of all operations of a compiled program's text."""
    inside: dict[str, set[str]] = collections.defaultdict(set)
    lines: list[tuple[str, str, str]] = []
    computation = ""
    for line in program.splitlines():
        if found := _COMPUTATION.match(line):
            computation = found[1]
        elif found := _OPERATION.match(line):
            inside[computation].add(found[2])
            lines.append((found[1], found[2], line))
    return {
        name: Operation(_kind(name, kind, inside, line), _place(line))
        for name, kind, line in lines
        if kind not in _HOLDERS
    }


def _kind(name: str, kind: str, inside: dict[str, set[str]], line: str) -> str:
    """Of a fusion by what it holds: a product before a sum before anything else."""
    called = _CALLS.search(line)
    held = inside[called[1]] - _BESIDE if kind == "fusion" and called else {kind}
    library = _LIBRARIES.get(name.split("_")[0], "")
    if "dot" in held:
        return f"products, {library or 'Eigen'}"
    if "convolution" in held:
        return f"convolutions{library and ', '}{library}"
    if held & {"reduce", "reduce-window"}:
        return "sums"
    if held <= _MOVES:
        return "copies"
    if held & {"exponential", "erf", "tanh", "logistic", "log"}:
        return "exponentials and the like"
    return "additions and the like"


def _place(line: str) -> str:
    """Forward or backward and the module, with one name for all blocks; "" where no line says."""
    found = _SOURCE.search(line)
    if not found:
        return ""
    source = found[1]
    way = "backward" if "transpose(jvp" in source else "forward"
    parts = re.split(r"\w+\.forward/", source)
    if len(parts) == 1:
        return way if "jvp" in source else "update"
    ours = [part for part in parts[-1].split("/")[:-1] if re.fullmatch(r"[a-z]\w*", part)]
    beside = {"closed_call", "checkpoint", "rematted_computation", "while", "body"}
    modules = [re.sub(r"_\d+$", "", part) for part in ours if part not in beside]
    return " ".join([way, "/".join(modules)]).strip()


def profile(step: Any, steps: int) -> dict[str, float]:
    """{name of an operation: milliseconds of a step}, the mean of some steps."""
    import jax
    from jax.profiler import ProfileData

    for _ in range(2):
        step()
    found: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="step_time_") as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                step()
        for file in Path(folder).rglob("*.xplane.pb"):
            for event in _events(ProfileData.from_file(str(file))):
                found[event.name] += event.duration_ns / 1e6 / steps
    return dict(found)


def _events(data: Any) -> Iterator[Any]:
    for plane in data.planes:
        for line in plane.lines:
            yield from line.events


def summed(times: dict[str, float], by: Iterable[tuple[str, str]]) -> dict[str, float]:
    """Milliseconds by group, the longest first. by: (operation, its group)."""
    found: collections.Counter[str] = collections.Counter()
    for name, group in by:
        if name in times:
            found[group] += times[name]
    return dict(found.most_common())


def main(given: Sequence[str] | None = None) -> None:
    """Profiles one step."""
    parser = _parser()
    arguments = parser.parse_args(given)
    try:
        chosen = contender(arguments.contender)
    except ValueError as error:
        parser.error(str(error).replace("--contenders", "--contender"))
    if chosen.framework != "ours":
        parser.error("--contender: only ours can be profiled")
    if min(arguments.steps, arguments.batch, arguments.image_size) < 1:
        parser.error("--steps, --batch and --image-size are at least 1")
    _to_one_core(parser, arguments.core)
    from benchmarks.step_ours import OurStep

    case = Case(arguments.step, arguments.model, arguments.image_size, arguments.batch)
    try:
        step = OurStep(case, chosen)
    except ValueError as error:  # a network or a size that can't be, in one line
        parser.error(str(error))
    times = profile(step, arguments.steps)
    begin = time.perf_counter()
    step()
    wall = 1e3 * (time.perf_counter() - begin)
    operations = operations_of(step.program_text())
    kinds = summed(times, ((name, one.kind) for name, one in operations.items()))
    places = summed(times, ((name, f"{x.place}, {x.kind}") for name, x in operations.items()))
    if arguments.json:
        row = {"case": vars(arguments), "wall_ms": wall, "kinds": kinds, "places": places}
        print(json.dumps(row))
        return
    total = sum(kinds.values())
    print(f"{total:.0f} ms of operations in a step; a step that isn't profiled: {wall:.0f} ms\n")
    for table in (kinds, dict(list(places.items())[: arguments.rows])):
        for name, taken in table.items():
            print(f"{taken:9.1f} ms {100 * taken / total:5.1f} %  {name}")
        print()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="vit_small_patch16")
    parser.add_argument("--step", default="scratch", choices=WHATS)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--contender", default="ours float32", help="of benchmarks.steps, ours")
    parser.add_argument("--steps", type=int, default=5, help="that are profiled")
    parser.add_argument("--rows", type=int, default=25, help="of the places' table")
    parser.add_argument("--core", type=int, help="which one (default: the first there is)")
    parser.add_argument("--json", action="store_true", help="one line for a program")
    return parser


def _to_one_core(parser: argparse.ArgumentParser, core: int | None) -> None:
    """Keeps this process on a CPU core; before JAX makes its threads, which stay there then."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    if not hasattr(os, "sched_setaffinity"):
        parser.error("only Linux keeps a process on one core")
    there = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(there) if core is None else core})
    except OSError:
        parser.error(f"--core: {core} is none of {sorted(there)}")


if __name__ == "__main__":
    main()
