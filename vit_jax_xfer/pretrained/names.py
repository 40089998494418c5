"""A publisher's names and ours: one ordered table, applied both ways, whole or not at all."""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vit_jax_xfer.pretrained.layout import SAME, Layout, Shape

State = dict[str, np.ndarray]

# How many batches PyTorch's batch norm has seen, which nothing reads at a fixed momentum.
BATCH_COUNTS = r".*\.num_batches_tracked"

_SHOWN = 30  # names an error lists of one kind: enough to see the pattern in a wrong file


class Rule(NamedTuple):
    """One parameter (or one a block): our path, the publisher's name or names, and the layout.

    `{i}` in a name stands for a block's number. Several names are arrays that one parameter is
    made of; none is a parameter whose value the layout alone knows.
    Where several rules fit a parameter, the first whose names the file has with shapes that fit is
    taken; export takes the first whose layout the parameter fits.
    """

    ours: str
    theirs: tuple[str, ...]
    layout: Layout = SAME


def rule(ours: str, theirs: str | tuple[str, ...], layout: Layout = SAME) -> Rule:
    """A Rule, with a single name written as a plain string."""
    return Rule(ours, (theirs,) if isinstance(theirs, str) else theirs, layout)


def affine(ours: str, theirs: str, kernel: Layout, bias: Layout = SAME) -> tuple[Rule, Rule]:
    """The rules of a layer: ours/{kernel,bias} from theirs.{weight,bias}."""
    return (
        rule(f"{ours}/kernel", f"{theirs}.weight", kernel),
        rule(f"{ours}/bias", f"{theirs}.bias", bias),
    )


def norm(ours: str, theirs: str) -> tuple[Rule, Rule]:
    """The rules of a normalisation: ours/{scale,bias} from theirs.{weight,bias}."""
    return rule(f"{ours}/scale", f"{theirs}.weight"), rule(f"{ours}/bias", f"{theirs}.bias")


def batch_norm(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The rules of PyTorch's batch norm: parameters and running statistics."""
    return (
        *norm(ours, theirs),
        rule(f"batch_stats/{ours}/mean", f"{theirs}.running_mean"),
        rule(f"batch_stats/{ours}/var", f"{theirs}.running_var"),
    )


def inside(prefix: str, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The same rules for a module that sits at `prefix` in a larger one of ours."""
    return tuple(r._replace(ours=prefix + r.ours) for r in rules)


def from_publisher(
    state: Mapping[str, np.ndarray],
    shapes: Mapping[str, Shape],
    rules: Sequence[Rule],
    ignored: Sequence[str] = (),
    finish: Callable[[np.ndarray], Any] = np.asarray,
    shown: Callable[[str], str] = str,
) -> dict[str, Any]:
    """{our path: array} for every path of `shapes`, from a file's names.

    ignored: regular expressions of whole names that the file may carry to no use (buffers).
    finish: what becomes of each array at once, so that a lazy file never lies in memory whole.
    shown: a name as errors show it, where the file was renamed before.
    One ValueError lists names left over, parameters not filled and shapes that disagree.
    """
    filled: dict[str, Any] = {}
    used: set[str] = set()
    missing, unequal = [], []
    for path, shape in shapes.items():
        found = _choose(path, rules, state, shape, shown)
        if found is None:
            missing.append(f"{path} (no name in this family)")
            continue
        names, layout = found
        used.update(names)
        absent = [name for name in names if name not in state]
        missing += [f"{path} (from {shown(name)})" for name in absent]
        if absent:
            continue
        wrong = _wrong_shapes(state, names, layout, shape)
        unequal += [f"{shown(name)}: {what}" for name, what in wrong]
        if not wrong:
            arrays = [layout.take(state[name]) for name in names]
            filled[path] = finish(layout.load(arrays, shape))
    left = [shown(name) for name in state if name not in used and not any_match(name, ignored)]
    _fail_on(left=left, missing=missing, unequal=unequal)
    return filled


def to_publisher(params: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> State:
    """{publisher's name: array} from {our path: array}: the inverse of from_publisher.

    ValueError listing the parameters that the publisher has no name for.
    """
    state: State = {}
    shares: dict[str, dict[int, np.ndarray]] = {}
    missing = []
    for path, value in params.items():
        found = next(_written(path, np.asarray(value), rules), None)
        if found is None:
            missing.append(path)
            continue
        names, layout, arrays = found
        if layout.share[1] > 1:
            shares.setdefault(names[0], {})[layout.share[0]] = arrays[0]
        else:
            state.update(zip(names, arrays, strict=True))
    for name, parts in shares.items():
        state[name] = np.concatenate([parts[i] for i in sorted(parts)])
    if missing:
        raise ValueError(f"parameters without a name in this family: {_listed(missing)}")
    return state


def _written(
    path: str, value: np.ndarray, rules: Sequence[Rule]
) -> Iterator[tuple[tuple[str, ...], Layout, tuple[np.ndarray, ...]]]:
    """Names, layout and arrays of each rule that our parameter fits."""
    for names, layout in candidates(path, rules):
        try:
            yield names, layout, layout.save(value)
        except ValueError:  # a bias of other parts
            continue


def candidates(path: str, rules: Sequence[Rule]) -> Iterator[tuple[tuple[str, ...], Layout]]:
    """The publisher's names for our path, and their layout: one for each rule that covers it."""
    for ours, theirs, layout in rules:
        match = _pattern(ours).fullmatch(path)
        if match is not None:
            number = match.groupdict().get("i", "")
            yield tuple(name.replace("{i}", number) for name in theirs), layout


def _choose(
    path: str,
    rules: Sequence[Rule],
    state: Mapping[str, np.ndarray],
    shape: Shape,
    shown: Callable[[str], str],
) -> tuple[tuple[str, ...], Layout] | None:
    """The rule whose names are there with fitting shapes, else with any.

    Without one, that of which most is there, so that errors name what lacks; then one whose names
    the file's way of naming has.
    """
    found = list(candidates(path, rules))
    found.sort(
        key=lambda one: (-sum(n in state for n in one[0]), all(n == shown(n) for n in one[0]))
    )
    there = [one for one in found if all(name in state for name in one[0])]
    fitting = [one for one in there if len(there) > 1 and not _wrong_shapes(state, *one, shape)]
    return next(iter([*fitting, *there, *found]), None)


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    """A name with `{i}` as a regular expression that captures the number."""
    return re.compile(re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)"))


def any_match(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the whole name."""
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def shape_in(state: Mapping[str, Any], name: str) -> Shape:
    """The shape of one of a file's arrays, which a lazy file tells without reading it."""
    lazy = getattr(state, "shape", None)
    return lazy(name) if lazy is not None else state[name].shape


def _wrong_shapes(
    state: Mapping[str, np.ndarray], names: Sequence[str], layout: Layout, shape: Shape
) -> list[tuple[str, str]]:
    """(name, what is wrong) of the arrays whose shape is not the one our parameter needs."""
    # A zero-strided array stands in for ours, so this allocates nothing.
    try:
        wanted = [array.shape for array in layout.save(np.broadcast_to(np.float32(0), shape))]
    except (ValueError, IndexError):  # a layout for another number of axes
        return [(names[0], f"found {shape_in(state, names[0])}, wanted another layout")]
    if layout.share[1] > 1:
        wanted = [(layout.share[1] * want[0], *want[1:]) for want in wanted]
    found = [shape_in(state, name) for name in names]
    return [
        (name, f"found {have}, wanted {want}")
        for name, have, want in zip(names, found, wanted, strict=True)
        if have != want
    ]


def _fail_on(left: list[str], missing: list[str], unequal: list[str]) -> None:
    """One ValueError for everything that keeps a file from loading whole."""
    kinds = {
        "names in the file that were not used": left,
        "parameters that were not filled": missing,
        "shapes that disagree": unequal,
    }
    problems = [f"{len(x)} {kind}: {_listed(x)}" for kind, x in kinds.items() if x]
    if problems:
        raise ValueError("the file does not load whole; " + "; ".join(problems))


def _listed(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f", … and {rest} more" if rest > 0 else "")
