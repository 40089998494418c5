"""A publisher's names and ours: one ordered table, applied both ways, whole or not at all."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vit_jax_xfer.pretrained.layout import SAME, Layout, Shape

State = dict[str, np.ndarray]

_SHOWN = 30  # names an error lists of one kind: enough to see the pattern in a wrong file


class Rule(NamedTuple):
    """One parameter (or one a block): our path, the publisher's name or names, and the layout.

    `{i}` in a name stands for a block's number. Several names are arrays that one parameter is
    made of; none is a parameter whose value the layout alone knows.
    Where several rules fit a parameter, the first whose names the file has is taken, and export
    takes the first.
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


def inside(prefix: str, rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """The same rules for a module that sits at `prefix` in a larger one of ours."""
    return tuple(r._replace(ours=prefix + r.ours) for r in rules)


def from_publisher(
    state: Mapping[str, np.ndarray],
    shapes: Mapping[str, Shape],
    rules: Sequence[Rule],
    ignored: Sequence[str] = (),
) -> State:
    """{our path: array} for every path of `shapes`, from a file's names.

    ignored: regular expressions of whole names that the file may carry to no use (buffers).
    One ValueError lists names left over, parameters not filled and shapes that disagree.
    """
    filled: State = {}
    used: set[str] = set()
    missing, unequal = [], []
    for path, shape in shapes.items():
        found = _names_for(path, rules, state)
        if found is None:
            missing.append(f"{path} (no name in this family)")
            continue
        names, layout = found
        used.update(names)
        absent = [name for name in names if name not in state]
        missing += [f"{path} (from {name})" for name in absent]
        if absent:
            continue
        wrong = _wrong_shapes(state, names, layout, shape)
        unequal += wrong
        if not wrong:
            filled[path] = layout.load([state[name] for name in names], shape)
    left = [name for name in state if name not in used and not _any_match(name, ignored)]
    _fail_on(left=left, missing=missing, unequal=unequal)
    return filled


def to_publisher(params: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> State:
    """{publisher's name: array} from {our path: array}: the inverse of from_publisher.

    ValueError listing the parameters that the publisher has no name for.
    """
    state: State = {}
    missing = []
    for path, value in params.items():
        found = _names_for(path, rules, None)
        if found is None:
            missing.append(path)
            continue
        names, layout = found
        state.update(zip(names, layout.save(np.asarray(value)), strict=True))
    if missing:
        raise ValueError(f"parameters without a name in this family: {_listed(missing)}")
    return state


def unknown_names(
    state: Mapping[str, np.ndarray], rules: Sequence[Rule], ignored: Sequence[str] = ()
) -> list[str]:
    """The file's names that no rule mentions and that are not to be ignored."""
    theirs = {name for r in rules for name in r.theirs}
    return [
        name
        for name in state
        if not _any_match(name, ignored) and not any(_pattern(t).fullmatch(name) for t in theirs)
    ]


def _names_for(
    path: str, rules: Sequence[Rule], state: Mapping[str, np.ndarray] | None
) -> tuple[tuple[str, ...], Layout] | None:
    """The publisher's names for our path: the first rule whose names are there, else the first."""
    first = None
    for ours, theirs, layout in rules:
        match = _pattern(ours).fullmatch(path)
        if match is None:
            continue
        names = tuple(name.replace("{i}", match.groupdict().get("i", "")) for name in theirs)
        if state is None or all(name in state for name in names):
            return names, layout
        first = first or (names, layout)
    return first


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    """A name with `{i}` as a regular expression that captures the number."""
    return re.compile(re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)"))


def _any_match(name: str, patterns: Sequence[str]) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _wrong_shapes(
    state: Mapping[str, np.ndarray], names: Sequence[str], layout: Layout, shape: Shape
) -> list[str]:
    """What to say of the arrays whose shape is not the one our parameter needs."""
    # A zero-strided array stands in for ours, so this allocates nothing.
    wanted = [array.shape for array in layout.save(np.broadcast_to(np.float32(0), shape))]
    return [
        f"{name}: found {state[name].shape}, wanted {want}"
        for name, want in zip(names, wanted, strict=True)
        if state[name].shape != want
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
