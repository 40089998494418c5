"""Whether a tree of arrays that was read is the one that was wanted, and the one that was written.

Orbax answers the first question with a page of text, and the second not at all: a byte that
changed inside an array's data is handed back without a word.
"""

import dataclasses
import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

PyTree = Any

_DIFFERENCES_SHOWN = 5


class OtherArraysError(ValueError):
    """The arrays that were found are not those that were asked for."""


class ChecksumError(RuntimeError):
    """An array has other bits than when it was written."""


def check_same_arrays(where: str, found: PyTree, wanted: PyTree) -> None:
    """Raises unless both trees have the same names, shapes and dtypes.

    Args:
      where: what `found` was read from, for the message.
      found: leaves with `shape` and `dtype`, as in the file (a PRNG key as its raw words).
      wanted: leaves with `shape` and `dtype`.

    Raises:
      OtherArraysError: a ValueError that names the first few differences, one a line.
    """
    have, want = _describe(found), _describe(wanted)
    lines = []
    for name in dict.fromkeys([*want, *have]):
        if name not in want:
            lines.append(f"{name}: {have[name]} in the file, not wanted")
        elif name not in have:
            lines.append(f"{name}: not in the file, {want[name]} wanted")
        elif have[name] != want[name]:
            lines.append(f"{name}: {have[name]} in the file, {want[name]} wanted")
    if lines:
        shown = lines[:_DIFFERENCES_SHOWN]
        if len(lines) > len(shown):
            shown.append(f"... and {len(lines) - len(shown)} more")
        count = f"{len(lines)} of {len(want)} arrays differ"
        raise OtherArraysError("\n  ".join([f"{where} holds another model: {count}", *shown]))


def checksums(tree: PyTree) -> dict[str, int]:
    """Name of each array to the sum of its bits as 32-bit words, modulo 2^32.

    Computed where the arrays are: on their devices, or by numpy. Integer sums depend on no order,
    so the result is the same on any number of devices and on all processes.
    """
    leaves = _named_leaves(tree)
    # JAX would round a float64 of numpy before it could be summed.
    here = {name: leaf for name, leaf in leaves.items() if isinstance(leaf, np.ndarray)}
    there = {name: leaf for name, leaf in leaves.items() if name not in here}
    sums = dict(zip(there, number_of_each(_sum_of_bits, list(there.values())), strict=True))
    sums |= {name: int(_sum_of_bits_numpy(leaf)) for name, leaf in here.items()}
    return {name: sums[name] for name in leaves}


def number_of_each(
    function: Callable[[jax.Array], jax.Array], arrays: Sequence[jax.Array]
) -> list[int]:
    """function(array), () of any integers, of each array.

    One program and one wait for all arrays on the same devices, as those of a run's state are. Many
    programs would be as many waits: at once, over split arrays, they can lock up XLA's CPU devices
    for good.
    """
    groups: dict[tuple[jax.Device, ...], list[int]] = {}
    for place, array in enumerate(arrays):
        groups.setdefault(_devices(array.sharding), []).append(place)
    found = [0] * len(arrays)
    for places in groups.values():
        some = [arrays[place] for place in places]
        numbers = np.asarray(_program(function, _whole(some))(some))
        for place, number in zip(places, numbers, strict=True):
            found[place] = int(number)
    return found


@functools.cache
def _program(
    function: Callable[[jax.Array], jax.Array], place: jax.sharding.Sharding | None
) -> Callable[[Sequence[jax.Array]], jax.Array]:
    def numbers(arrays: Sequence[jax.Array]) -> jax.Array:
        return jnp.stack([function(array) for array in arrays])

    return jax.jit(numbers, out_shardings=place)


def _devices(sharding: jax.sharding.Sharding) -> tuple[jax.Device, ...]:
    """In their order, for which a program is made."""
    if isinstance(sharding, jax.sharding.NamedSharding):
        return tuple(sharding.mesh.devices.flat)
    return tuple(sorted(sharding.device_set, key=lambda device: device.id))


def _whole(arrays: Sequence[jax.Array]) -> jax.sharding.Sharding | None:
    """Where a result is whole on every device of arrays that lie on a mesh; None: on no mesh."""
    named = jax.sharding.NamedSharding
    meshes = [array.sharding.mesh for array in arrays if isinstance(array.sharding, named)]
    return named(meshes[0], jax.sharding.PartitionSpec()) if meshes else None


def check_checksums(tree: PyTree, expected: Mapping[str, int]) -> None:
    """Raises ChecksumError, naming the first array, unless `checksums(tree) == expected`."""
    for name, value in checksums(tree).items():
        if expected.get(name) != value:
            raise ChecksumError(f"the bits of {name} have changed since it was written")


def sum_of_text(text: str) -> int:
    """The checksum of what is written beside arrays."""
    return zlib.crc32(text.encode())


def fields_in(state: PyTree, found: Mapping[str, Any]) -> tuple[PyTree, dict[str, Any]]:
    """(what of a state to read, the fields that hold no array and are newer than the file).

    Orbax takes a field without arrays for another tree where the file has none of its name.
    """
    if not dataclasses.is_dataclass(state):
        return state, {}
    fields = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    absent = {
        name: value
        for name, value in fields.items()
        if name not in found and not jax.tree.leaves(value)
    }
    kept = {name: value for name, value in fields.items() if name not in absent}
    return (kept, absent) if absent else (state, {})


def require_shardings(abstract: PyTree) -> None:
    """ValueError for a leaf without one: Orbax takes the file's, whose devices need not be here."""
    if any(getattr(leaf, "sharding", None) is None for leaf in jax.tree.leaves(abstract)):
        raise ValueError("every leaf must be a jax.ShapeDtypeStruct with a sharding")


def _named_leaves(tree: PyTree) -> dict[str, Any]:
    """Leaves by name, as in "params/head/kernel"; the same for a dict and a dataclass."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def _is_key(array: Any) -> bool:
    return jax.dtypes.issubdtype(array.dtype, jax.dtypes.prng_key)


def _describe(tree: PyTree) -> dict[str, str]:
    def one(leaf) -> str:
        if _is_key(leaf):
            leaf = jax.eval_shape(jax.random.key_data, leaf)
        return f"{tuple(leaf.shape)} {np.dtype(leaf.dtype)}"

    return {name: one(leaf) for name, leaf in _named_leaves(tree).items()}


def _sum_of_bits_numpy(array: np.ndarray) -> np.uint32:
    word = f"u{min(array.dtype.itemsize, 4)}"
    return np.ascontiguousarray(array).reshape(-1).view(word).sum(dtype=np.uint32)


def _sum_of_bits(array: jax.Array) -> jax.Array:
    if _is_key(array):
        array = jax.random.key_data(array)
    if array.dtype == jnp.bool_:
        array = array.astype(jnp.uint8)
    word = f"uint{8 * min(array.dtype.itemsize, 4)}"
    words = jax.lax.bitcast_convert_type(array, jnp.dtype(word))
    return jnp.sum(words.astype(jnp.uint32), dtype=jnp.uint32)
