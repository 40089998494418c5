"""What the devices of a mesh send each other in a compiled program, read from its text."""

import math
import re
from typing import NamedTuple

KINDS: tuple[str, ...] = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_COLLECTIVE = re.compile(rf" = (.*?) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+?(\d+)\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:body|condition|calls|to_apply|\w+_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
# A group is a list, a row of a table, or some axes of a mesh.
_GROUPS = re.compile(
    r"replica_groups=(?:\{\{([\d,]*)\}|\[\d+,(\d+)\]|mesh\[([^]]*)\][^{]*\{([^}]*)\})"
)
_AXIS = re.compile(r"('[^']*')=(\d+)")


class Collective(NamedTuple):
    """One operation of a compiled program in which devices exchange data.

    kind: of KINDS. shapes: of its results on one device; several where operations were merged.
    size: their bytes. devices: how many take part in one group, 0 = all. times: how often it runs
    in one call of the program, a loop of unknown length counted once. looped: whether it is inside
    a loop.
    """

    kind: str
    shapes: tuple[tuple[int, ...], ...]
    size: int
    devices: int
    times: int
    looped: bool


def collectives(text: str) -> list[Collective]:
    """The collectives of a program from its HLO text, `compiled.as_text()`."""
    bodies, entry = _computations(text)
    return _within(entry, bodies, 1, False)


def collective_table(found: list[Collective]) -> str:
    """One line for each kind and group of devices: how many a step, and bytes on one device."""
    groups: dict[tuple[str, int], list[Collective]] = {}
    for one in found:
        groups.setdefault((one.kind, one.devices), []).append(one)
    lines = []
    for (kind, devices), some in sorted(groups.items()):
        times = sum(one.times for one in some)
        mib = sum(one.times * one.size for one in some) / 2**20
        among = f"among {devices} devices" if devices else "among all devices"
        lines.append(f"  {kind:<20} {times:>5} × {among:<20} {mib:12,.2f} MiB")
    return "\n".join(lines)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """{name: its lines}, and which of them the program starts with."""
    bodies: dict[str, list[str]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if found := _COMPUTATION.match(line):
            lines = bodies[found[2]] = []
            entry = found[2] if found[1] else entry
        elif " = " in line:
            lines.append(line)
    if not entry:
        raise ValueError("text: no ENTRY computation; expected what compiled.as_text() gives")
    return bodies, entry


def _within(name: str, bodies: dict[str, list[str]], times: int, looped: bool) -> list[Collective]:
    found = []
    for line in bodies.get(name, ()):
        if match := _COLLECTIVE.search(line):
            found.append(_collective(match, line, times, looped))
            continue  # what it calls adds two numbers
        loop = " while(" in line
        trips = int(_TRIPS.search(line)[1]) if loop and _TRIPS.search(line) else 1
        called = _CALLED.findall(line)
        for branches in _BRANCHES.findall(line):
            called += [branch.strip(" %") for branch in branches.split(",")]
        for inner in called:
            found += _within(inner, bodies, times * trips, looped or loop)
    return found


def _collective(match: re.Match[str], line: str, times: int, looped: bool) -> Collective:
    arrays = [
        (tuple(int(n) for n in dims.split(",") if n), int(bits or 8) // 8)
        for _, bits, dims in _ARRAY.findall(match[1])
    ]
    if match[3] and match[2] != "all-reduce":
        arrays = arrays[len(arrays) // 2 :]  # an asynchronous start lists its inputs first
    shapes = tuple(shape for shape, _ in arrays)
    size = sum(math.prod(shape) * width for shape, width in arrays)
    return Collective(match[2], shapes, size, _group_size(line), times, looped)


def _group_size(line: str) -> int:
    found = _GROUPS.search(line)
    if not found:
        return 0
    listed, row, mesh, axes = found.groups()
    if mesh is not None:
        return math.prod(int(size) for axis, size in _AXIS.findall(mesh) if axis in axes)
    return int(row) if row else len(listed.split(","))
