"""A recognised file's arrays, put into its model's variables: each read when its turn comes.

All of the file and all of the model, or one error that lists what is left over, missing or of
another shape.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.traverse_util
import jax
import numpy as np

from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.transformer.patches import for_channels, grid_of
from vit_jax_xfer.models.transformer.positions import fit_positions
from vit_jax_xfer.models.transformer.relative_positions import resize_table, table_rows
from vit_jax_xfer.pretrained.family_entry import Recognised
from vit_jax_xfer.pretrained.fresh_head import draw_afresh
from vit_jax_xfer.pretrained.parameter_rules import (
    Layout,
    Rule,
    Shape,
    candidates,
    listed,
    shape_in,
    unstack_blocks,
)

_FIRST_KERNEL = "patch_embed/kernel"


def fill(found: Recognised, seed: int = 0) -> dict[str, Any]:
    """{"params": …, "batch_stats": …} as float32 numpy arrays, the latter where the model has them.

    The arrays are made first, blocks of a scan as one, and each parameter of the file is read into
    its place: beside the model, one parameter is in memory. Nothing is put on a device.
    seed: of the parts that start afresh. ValueError unless the file fills all others whole, with
    numbers that aren't whole ones.
    """
    _refuse_whole_numbers(found)
    shapes = variable_shapes(found.model)
    variables = jax.tree.map(lambda leaf: np.empty(leaf.shape, np.float32), shapes)
    params = flatten(unstack_blocks(variables["params"]))  # views of the stacks
    # Parameters' paths stand without "params/"; those of other collections begin with their name.
    others = {name: tree for name, tree in variables.items() if name != "params"}
    places = dict([*params, *flatten(others)])
    for path, drawn in flatten(draw_afresh(found.model, found.fresh, seed)):
        np.copyto(places.pop(path), drawn)
    wanted = {path: place.shape for path, place in places.items()}
    channels = found.model.in_channels
    if found.stored_channels not in (None, channels):
        p, q, _, width = wanted[_FIRST_KERNEL]
        wanted[_FIRST_KERNEL] = (p, q, found.stored_channels, width)

    def put(path: str, array: np.ndarray) -> None:
        array = for_channels(array, channels) if path == _FIRST_KERNEL else array
        np.copyto(places[path], array)

    from_publisher(_fitted(found), wanted, found.rules, found.ignored, put, found.shown)
    return variables


def _refuse_whole_numbers(found: Recognised) -> None:
    """What is not a buffer is learned in floats; whole numbers are codes for some."""
    whole = [
        f"{found.shown(name)} ({stored.dtype})"
        for name, stored in found.state.stored.items()
        if re.match("u?int|bool", stored.dtype) and not _any_match(name, found.ignored)
    ]
    if whole:
        raise ValueError(
            f"parameters of whole numbers, as quantising leaves: {listed(whole)}; dequantise them "
            "where they were made, and save floats"
        )


def from_publisher(
    state: Mapping[str, np.ndarray],
    shapes: Mapping[str, Shape],
    rules: Sequence[Rule],
    ignored: Sequence[str] = (),
    put: Callable[[str, np.ndarray], Any] = lambda path, array: array,
    shown: Callable[[str], str] = str,
) -> dict[str, Any]:
    """{our path: array} for every path of `shapes`, from a file's names.

    ignored: regular expressions of whole names that the file may carry to no use (buffers).
    put: what becomes of each array at once, so that a lazy file never lies in memory whole.
    shown: a name as errors show it, where the file was renamed before.
    One ValueError lists names left over, parameters not filled and shapes that disagree; another
    names the first array with numbers that are none.
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
            arrays = [_finite(layout.take(state[name]), shown(name)) for name in names]
            filled[path] = put(path, layout.load(arrays, shape))
    left = [shown(name) for name in state if name not in used and not _any_match(name, ignored)]
    _fail_on(left=left, missing=missing, unequal=unequal)
    return filled


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


def _finite(array: np.ndarray, name: str) -> np.ndarray:
    """The array. ValueError naming it where a number is none: all that it touches would be none."""
    number = array.size - np.count_nonzero(np.isfinite(array))
    if number:
        raise ValueError(
            f"{name}: {number} of {array.size} numbers are infinite or none (NaN), as training "
            "leaves that has diverged, or float16 that was too narrow; take an earlier checkpoint, "
            "or save these weights in float32"
        )
    return array


def _fail_on(left: list[str], missing: list[str], unequal: list[str]) -> None:
    """One ValueError for everything that keeps a file from loading whole."""
    kinds = {
        "names in the file that were not used": left,
        "parameters that were not filled": missing,
        "shapes that disagree": unequal,
    }
    problems = [f"{len(x)} {kind}: {listed(x)}" for kind, x in kinds.items() if x]
    if problems:
        raise ValueError("the file does not load whole; " + "; ".join(problems))


def _any_match(name: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the whole name."""
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def param_shapes(model: Network) -> dict[str, Any]:
    """The shapes of a model's parameters, without making them."""
    return variable_shapes(model)["params"]


def variable_shapes(model: Network) -> dict[str, Any]:
    """The shapes of a model's parameters and batch statistics, by collection."""
    # Blocks that are alike are traced once instead of one after the other.
    scanned = model.with_fields(scan=True) if model.blocks_alike else model
    variables = jax.eval_shape(lambda: scanned.init_variables(jax.random.key(0)))
    found = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
    if scanned != model:
        found["params"] = jax.eval_shape(unstack_blocks, found["params"])
    return found


def flatten(params: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(path, leaf) of every parameter, "blocks_0/norm1/scale"."""
    return list(flax.traverse_util.flatten_dict(params, sep="/").items())


def _fitted(found: Recognised) -> Mapping[str, np.ndarray]:
    """The file with its tables of positions on the model's grid."""
    encoder = found.model.encoder
    if found.stored_size is None:
        return found.state
    old = grid_of(found.stored_size, encoder.patch_size, drop_remainder=True)
    if old == encoder.position_grid == encoder.grid:
        return found.state
    fitted = {}
    prefix = encoder.prefix_positions
    for name in ("pos_embed", "pos_embedding", "decoder_pos_embed"):
        if name in found.state:
            table = found.state[name]
            table = table if table.ndim == 3 else table[None]
            if table.ndim != 3:
                continue  # its shape will be named
            rows = 1 if name == "decoder_pos_embed" else prefix
            fitted[name] = fit_positions(
                table, old, encoder.position_grid, rows, encoder.position_resize
            )
    if encoder.relative_bias != "none":
        for name in found.state:
            if name.endswith("relative_position_bias_table"):
                table = found.state[name]
                if len(table) != table_rows(old):
                    raise ValueError(
                        f"{found.shown(name)}: {len(table)} rows, the first table has "
                        f"{table_rows(old)}"
                    )
                fitted[name] = resize_table(table, old, encoder.grid, encoder.relative_resize)
    return found.state.replaced(fitted)
