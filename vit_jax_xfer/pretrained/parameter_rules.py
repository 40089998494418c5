"""One of our parameters and the publisher's arrays that it is made of, read both ways.

A `Rule` names both, a `Layout` changes one into the other: `load` takes the publisher's arrays and
our shape, `save` takes our array. `save` also tells which shapes a file must have, so no layout
states shapes. A parameter may be a share of a publisher's array (`part`).
PyTorch keeps a linear layer as (out, in) and a convolution as (out, in, h, w).
Below, how blocks are stacked for a scan and taken apart again.
"""

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[int, ...]
Params = dict[str, Any]
State = dict[str, np.ndarray]

_LISTED = 30


class Layout(NamedTuple):
    """load(their arrays, our shape) → our array; save(our array) → their arrays, in that order.

    share: (which, of how many) equal parts along the first axis of their one array this is.
    """

    load: Callable[[Sequence[np.ndarray], Shape], np.ndarray]
    save: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    share: tuple[int, int] = (0, 1)

    def take(self, array: np.ndarray) -> np.ndarray:
        """This parameter's share of the publisher's array."""
        which, number = self.share
        size = array.shape[0] // number if number > 1 else 0
        return array[which * size : (which + 1) * size] if number > 1 else array


def single(
    load: Callable[[np.ndarray, Shape], np.ndarray], save: Callable[[np.ndarray], np.ndarray]
) -> Layout:
    """A layout for a parameter that is one array in the file too."""
    return Layout(lambda arrays, shape: load(arrays[0], shape), lambda ours: (save(ours),))


SAME = single(lambda theirs, shape: theirs, lambda ours: ours)

LINEAR = single(lambda theirs, shape: theirs.T, lambda ours: ours.T)

# (C, 3, p, p) ↔ (p, p, 3, C)
CONV = single(
    lambda theirs, shape: theirs.transpose(2, 3, 1, 0), lambda ours: ours.transpose(3, 2, 0, 1)
)

# (C, C', 1, 1) ↔ (C', C): a 1×1 convolution is a matrix product here
POINTWISE = single(
    lambda theirs, shape: theirs[:, :, 0, 0].T, lambda ours: ours.T[:, :, None, None]
)

# A transposed convolution, (C, C', k, k) ↔ (k, k, C, C')
TRANSPOSED_CONV = single(
    lambda theirs, shape: theirs.transpose(2, 3, 0, 1), lambda ours: ours.transpose(2, 3, 0, 1)
)

# (3C, C), rows ordered q, k, v, then head, then channel ↔ (C, 3, H, d)
QKV_KERNEL = single(
    lambda theirs, shape: theirs.T.reshape(shape), lambda ours: ours.reshape(len(ours), -1).T
)


def _parts(ours: np.ndarray, number: int) -> np.ndarray:
    """A bias of so many parts. ValueError for one of another number."""
    if len(ours) != number:
        raise ValueError(f"a bias of {len(ours)} parts, expected {number}")
    return ours


# (3C,) ↔ (3, H, d)
QKV_BIAS = single(
    lambda theirs, shape: theirs.reshape(shape), lambda ours: _parts(ours, 3).reshape(-1)
)

# (C, C) ↔ (H, d, C)
PROJ_KERNEL = single(
    lambda theirs, shape: theirs.T.reshape(shape),
    lambda ours: ours.reshape(-1, ours.shape[-1]).T,
)

# q, k, v apart, each (C, C) ↔ (C, 3, H, d)
SPLIT_QKV_KERNEL = Layout(
    lambda theirs, shape: np.stack([one.T for one in theirs], axis=1).reshape(shape),
    lambda ours: tuple(ours[:, i].reshape(len(ours), -1).T for i in range(3)),
)

# q, k, v apart, each (C,) ↔ (3, H, d)
SPLIT_QKV_BIAS = Layout(
    lambda theirs, shape: np.stack(theirs).reshape(shape),
    lambda ours: tuple(one.reshape(-1) for one in _parts(ours, 3)),
)

# q and v apart, each (C,) ↔ (2, H, d): attention without a bias of the keys
QV_BIAS = Layout(
    lambda theirs, shape: np.stack(theirs).reshape(shape),
    lambda ours: tuple(one.reshape(-1) for one in _parts(ours, 2)),
)

# q (C, C), and k and v together (2C, C) ↔ (C, 3, H, d); biases likewise
Q_KV_KERNEL = Layout(
    lambda theirs, shape: np.concatenate(theirs).T.reshape(shape),
    lambda ours: (ours[:, 0].reshape(len(ours), -1).T, ours[:, 1:].reshape(len(ours), -1).T),
)
Q_KV_BIAS = Layout(
    lambda theirs, shape: np.concatenate(theirs).reshape(shape),
    lambda ours: (ours[0].reshape(-1), ours[1:].reshape(-1)),
)

# A token or a table without the leading axes of ours: (C,) ↔ (1, 1, C), (N, C) ↔ (1, N, C)
TOKEN = single(lambda theirs, shape: theirs[None, None], lambda ours: ours[0, 0])
TABLE = single(lambda theirs, shape: theirs[None], lambda ours: ours[0])

# Flax's attention: q, k, v apart, each (C, H, d) ↔ (C, 3, H, d), biases (H, d) ↔ (3, H, d)
FLAX_QKV_KERNEL = Layout(
    lambda theirs, shape: np.stack(theirs, axis=1),
    lambda ours: tuple(ours[:, i] for i in range(3)),
)
FLAX_QKV_BIAS = Layout(lambda theirs, shape: np.stack(theirs), lambda ours: tuple(_parts(ours, 3)))


def part(layout: Layout, which: int, number: int) -> Layout:
    """The layout of a parameter that is one of `number` equal parts of a publisher's array."""
    return layout._replace(share=(which, number))


# How many batches PyTorch's batch norm has seen, which nothing reads at a fixed momentum.
BATCH_COUNTS = r".*\.num_batches_tracked"


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


def candidates(path: str, rules: Sequence[Rule]) -> Iterator[tuple[tuple[str, ...], Layout]]:
    """The publisher's names for our path, and their layout: one for each rule that covers it."""
    for ours, theirs, layout in rules:
        match = _pattern(ours).fullmatch(path)
        if match is not None:
            number = match.groupdict().get("i", "")
            yield tuple(name.replace("{i}", number) for name in theirs), layout


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    """A name with `{i}` as a regular expression that captures the number."""
    return re.compile(re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)"))


def shape_in(state: Mapping[str, Any], name: str) -> Shape:
    """The shape of one of a file's arrays, which a lazy file tells without reading it."""
    lazy = getattr(state, "shape", None)
    return lazy(name) if lazy is not None else state[name].shape


def listed(names: Sequence[str]) -> str:
    """Names for an error, enough of them to see the pattern in a wrong file."""
    rest = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f", … and {rest} more" if rest > 0 else "")


def stack_blocks(params: Params, like: Mapping[str, Any] | None = None) -> Params:
    """`blocks_0` … `blocks_{L-1}` → `blocks` with a leading axis L, at every depth of the tree.

    like: a tree whose stacked groups alone are stacked; None = all. Numpy leaves stay numpy.
    ValueError when a group is not numbered 0 … L-1 without gaps.
    """
    groups: dict[str, dict[int, Any]] = {}
    stacked: Params = {}
    for name, value in params.items():
        group, index = _numbered(name)
        if group and (like is None or group in like):
            groups.setdefault(group, {})[index] = value
        elif isinstance(value, Mapping):
            stacked[name] = stack_blocks(value, like if like is None else like.get(name, {}))
        else:
            stacked[name] = value
    for group, blocks in groups.items():
        if sorted(blocks) != list(range(len(blocks))):
            raise ValueError(f"{group}: blocks are numbered {sorted(blocks)}, expected 0, 1, 2, …")
        ordered = [blocks[i] for i in range(len(blocks))]
        stacked[group] = jax.tree.map(_stack, *ordered)
    return stacked


def _stack(*leaves: Any) -> Any:
    """One array with a new leading axis; on the host where all leaves are numpy's."""
    if not all(isinstance(leaf, np.ndarray) for leaf in leaves):
        return jnp.stack(leaves)
    shape, number = (len(leaves), *leaves[0].shape), leaves[0].flat[:1]
    if leaves[0].ndim and all(not any(x.strides) and x.flat[0] == number for x in leaves):
        return np.broadcast_to(number[0], shape)  # a placeholder, which takes no memory
    return np.stack(leaves)


def unstack_blocks(params: Params) -> Params:
    """`blocks` with a leading axis L → `blocks_0` … `blocks_{L-1}`; the inverse of stack_blocks.

    ValueError when the leaves of a group have different leading axes.
    """
    unstacked: Params = {}
    for name, value in params.items():
        if not isinstance(value, Mapping):
            unstacked[name] = value
        elif not name.endswith("blocks"):
            unstacked[name] = unstack_blocks(value)
        else:
            lengths = {leaf.shape[0] for leaf in jax.tree.leaves(value)}
            if len(lengths) != 1:
                raise ValueError(f"{name}: leading axes {sorted(lengths)}, expected one length")
            for i in range(lengths.pop()):
                unstacked[f"{name}_{i}"] = jax.tree.map(lambda leaf, i=i: leaf[i], value)
    return unstacked


def _numbered(name: str) -> tuple[str | None, int]:
    """`decoder_blocks_3` → ("decoder_blocks", 3); any other name → (None, 0)."""
    match = re.fullmatch(r"(.*blocks)_(\d+)", name)
    return (match[1], int(match[2])) if match else (None, 0)
