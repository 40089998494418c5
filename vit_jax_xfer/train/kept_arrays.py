"""How many bytes a traced step must keep at once, told before any compiler sees it: a lower bound.

A compiler fuses, reorders, and computes cheap values again, so the arrays of a trace say little of
what memory a step takes. But it makes no matrix product, convolution or loop twice. At the moment
after one of them, everything later that needs results of earlier ones must find them, or something
between the two, in memory: of all such choices the one of fewest bytes is a minimum cut through the
trace. Arguments of the step, which are there in any case, count nothing; nor do its results, which
take the arguments' places.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

# What is not made twice; all else may be made again wherever it is needed.
HEAVY = frozenset({"dot_general", "conv_general_dilated", "scan", "while", "pallas_call"})
_EQUAL = 2**12  # bytes by which two moments differ that are as full as each other
_WHOLE = 2**30  # of flows, which are 32-bit numbers


class TracedOperation(NamedTuple):
    """One of a trace: what it takes and gives as numbers of arrays, and what it must hold beside.

    heavy: it is not made twice. held: bytes within it, of a loop those of one turn. each: it gives
    what it takes, one for one.
    """

    takes: tuple[int, ...]
    gives: tuple[int, ...]
    heavy: bool
    held: int = 0
    each: bool = False

    def ways(self) -> Iterator[tuple[int, int]]:
        """Pairs of an array that it takes and one that it gives and makes of it."""
        if self.each:
            return zip(self.takes, self.gives, strict=True)
        return itertools.product(self.takes, self.gives)


class Trace(NamedTuple):
    """A jaxpr without calls, and without what leads to no result.

    sizes: bytes of each array. given: those that are arguments, or made of nothing else by cheap
    operations. results: what it returns.
    """

    operations: list[TracedOperation]
    sizes: list[int]
    given: set[int]
    results: set[int]


def kept_bytes(jaxpr: core.Jaxpr) -> int:
    """The least that a step holds at its fullest moment beside its arguments, on all devices."""
    trace = flat_trace(jaxpr, kept_bytes)
    loops = (op.held + _given_by(op, trace) for op in trace.operations if op.held)
    cuts = (_cut_after(at, trace) for at in _fullest(trace))
    return max((0, *loops, *cuts))


def plain_bytes(jaxpr: core.Jaxpr) -> int:
    """As `kept_bytes`, were each array made in its turn and kept as it is: more, and soon told."""
    trace = flat_trace(jaxpr, plain_bytes)
    waiting = _waiting(trace)
    return int(max((0, *(waiting[at] + op.held for at, op in enumerate(trace.operations)))))


def flat_trace(jaxpr: core.Jaxpr, within: Callable[[core.Jaxpr], int]) -> Trace:
    """A jaxpr with its calls opened. within: bytes that a turn of a loop holds, of its jaxpr."""
    numbers: dict[Any, int] = {}
    sizes: list[int] = []

    def number(var: Any, names: dict[Any, int]) -> int:
        if var not in names:
            names[var] = len(sizes)
            sizes.append(_size(var.aval))
        return names[var]

    operations: list[TracedOperation] = []

    def walk(inner: core.Jaxpr, names: dict[Any, int]) -> None:
        for eqn in inner.eqns:
            called = _called(eqn)
            if called is None:
                takes = tuple(number(x, names) for x in eqn.invars if not _literal(x))
                gives = tuple(number(x, names) for x in eqn.outvars)
                heavy = eqn.primitive.name in HEAVY
                held = within(eqn.params["jaxpr"].jaxpr) if eqn.primitive.name == "scan" else 0
                each = eqn.primitive.name == "optimization_barrier" and len(takes) == len(gives)
                operations.append(TracedOperation(takes, gives, heavy, held, each))
                continue
            own: dict[Any, int] = {}
            for var, outer in zip(called.invars, eqn.invars, strict=True):
                if not _literal(outer):
                    own[var] = number(outer, names)
            walk(called, own)
            for var, outer in zip(called.outvars, eqn.outvars, strict=True):
                if not _literal(var):
                    names[outer] = number(var, own)

    given = {number(var, numbers) for var in (*jaxpr.invars, *jaxpr.constvars)}
    walk(jaxpr, numbers)
    results = {number(var, numbers) for var in jaxpr.outvars if not _literal(var)}
    return _needed(Trace(operations, sizes, given, results))


def _literal(atom: Any) -> bool:
    return isinstance(atom, core.Literal)


def _size(aval: Any) -> int:
    """Bytes of an array; 0 for what is none, such as a token, and for keys, which are small."""
    shape, dtype = getattr(aval, "shape", None), getattr(aval, "dtype", None)
    if shape is None or dtype is None or jax.dtypes.issubdtype(dtype, jax.dtypes.extended):
        return 0
    return math.prod(shape) * dtype.itemsize


def _called(eqn: core.JaxprEqn) -> core.Jaxpr | None:
    """What a call calls; None for an operation. A `cond` stays one, for one branch runs alone."""
    if eqn.primitive.name in HEAVY or eqn.primitive.name == "cond":
        return None
    for name in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        found = eqn.params.get(name)
        inner = found.jaxpr if isinstance(found, core.ClosedJaxpr) else found
        if isinstance(inner, core.Jaxpr) and len(inner.invars) == len(eqn.invars):
            return inner
    return None


def _needed(trace: Trace) -> Trace:
    """The trace without operations that lead to no result, and all that is `given`."""
    wanted, kept = set(trace.results), []
    for op in reversed(trace.operations):
        if wanted.intersection(op.gives):
            wanted.update(op.takes)
            kept.append(op)
    kept.reverse()
    given = set(trace.given)
    for op in kept:
        if not op.heavy and given.issuperset(op.takes):
            given.update(op.gives)
    return Trace(kept, trace.sizes, given, trace.results)


def _given_by(operation: TracedOperation, trace: Trace) -> int:
    """Bytes of what an operation gives: of a loop, all that is there from its first turn on."""
    return sum(trace.sizes[x] for x in operation.gives)


def _fullest(trace: Trace, most: int = 3) -> list[int]:
    """Operations after which most bytes wait for later ones, were each array kept as it is.

    Heavy ones that lead to others, after which most waits for heavy ones, as activations do; and
    those of one number after which most waits for any, as gradients do for their norm. The last of
    equals.
    """
    heavy = {at for at, op in enumerate(trace.operations) if op.heavy}
    leading = heavy & _leading_to(heavy, trace.operations)
    numbers = {at for at, op in enumerate(trace.operations) if op.takes and _is_number(op, trace)}

    def fullest(some: set[int], waiting: np.ndarray) -> list[int]:
        return sorted(some, key=lambda at: (-(waiting[at] // _EQUAL), -at))[:most]

    both = fullest(leading, _waiting(trace, heavy)), fullest(numbers, _waiting(trace))
    return sorted({at for some in both for at in some})


def _leading_to(ends: set[int], operations: Sequence[TracedOperation]) -> set[int]:
    """The operations that some of others wait for."""
    wanted, found = set(), set()
    for at in range(len(operations) - 1, -1, -1):
        if wanted.intersection(operations[at].gives):
            found.add(at)
        if at in found or at in ends:
            wanted.update(operations[at].takes)
    return found


def _is_number(operation: TracedOperation, trace: Trace) -> bool:
    return not trace.given.issuperset(operation.gives) and _given_by(operation, trace) <= 8


def _waiting(trace: Trace, takers: set[int] | None = None) -> np.ndarray:
    """Bytes of arrays that stand after each operation and that later ones take, (operations,).

    takers: which count, None = all, and the results.
    """
    number = len(trace.operations)
    last = dict.fromkeys(trace.results if takers is None else (), number)
    for at, op in enumerate(trace.operations):
        for x in op.takes if takers is None or at in takers else ():
            last[x] = max(at, last.get(x, 0))
    change = np.zeros(number + 1)
    for at, op in enumerate(trace.operations):
        for x in op.gives:
            if x in last and x not in trace.given:
                change[at] += trace.sizes[x]
                change[last[x]] -= trace.sizes[x]
    return np.cumsum(change)[:number]


def _cut_after(at: int, trace: Trace) -> int:
    """The fewest bytes that can be kept right after an operation, see the module's text."""
    operations, sizes = trace.operations, trace.sizes
    before, after = _before(at, operations), _after(at, operations)
    # What was surely made by then, and what is taken by what surely was not.
    made = {x for i in {*before, at} if operations[i].heavy for x in operations[i].gives}
    # A result that is made already may lie where the argument was that it takes the place of.
    wanted = {x for i in after for x in operations[i].takes} - trace.given
    edges = [
        (x, y)
        for i, op in enumerate(operations)
        if i not in after
        for x, y in op.ways()
        if y not in made and not trace.given.intersection((x, y))
    ]
    return _minimum_cut(made, wanted, edges, sizes)


def _before(at: int, operations: Sequence[TracedOperation]) -> set[int]:
    """The operations that one waits for."""
    wanted, found = set(operations[at].takes), set()
    for i in range(at - 1, -1, -1):
        if wanted.intersection(operations[i].gives):
            wanted.update(operations[i].takes)
            found.add(i)
    return found


def _after(at: int, operations: Sequence[TracedOperation]) -> set[int]:
    """The operations that wait for one."""
    made, found = set(operations[at].gives), set()
    for i in range(at + 1, len(operations)):
        if made.intersection(operations[i].takes):
            made.update(operations[i].gives)
            found.add(i)
    return found


def _minimum_cut(
    sources: Iterable[int], sinks: Iterable[int], edges: Iterable[tuple[int, int]], sizes: list[int]
) -> int:
    """Bytes of the smallest set of arrays through which every way from a source to a sink goes."""
    sources, sinks = list(sources), list(sinks)
    ends = [*sources, *sinks, *(x for edge in edges for x in edge)]
    places = {x: i for i, x in enumerate(dict.fromkeys(ends))}
    if not sources or not sinks:
        return 0
    # Flows count in units, so that all of them together are a 32-bit number; rounded down.
    unit = max(1, math.ceil(sum(sizes[x] for x in places) / _WHOLE))
    start, end = 2 * len(places), 2 * len(places) + 1

    def arcs() -> Iterator[tuple[int, int, int]]:
        for x, i in places.items():
            yield 2 * i, 2 * i + 1, sizes[x] // unit
        for x in sources:
            yield start, 2 * places[x], _WHOLE
        for x in sinks:
            yield 2 * places[x] + 1, end, _WHOLE
        for x, y in set(edges):
            yield 2 * places[x] + 1, 2 * places[y], _WHOLE

    rows, columns, capacities = (np.array(x, np.int32) for x in zip(*arcs(), strict=True))
    graph = csr_array((capacities, (rows, columns)), shape=(end + 1, end + 1))
    return int(maximum_flow(graph, start, end).flow_value) * unit
