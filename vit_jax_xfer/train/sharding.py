"""Where arrays live: a (data, fsdp, tensor) mesh, and each parameter's place on it by name rules.

The same code serves one device and many processes. Axes are of type Auto: the compiler propagates
shardings and inserts collectives.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vit_jax_xfer.train.leaves import leaf_rules
from vit_jax_xfer.train.rules import Rules, name_of, named_leaves
from vit_jax_xfer.train.slices import across_slices, mesh_slices

if TYPE_CHECKING:  # the step is built where there are no configs
    from ml_collections import ConfigDict

PyTree = Any
AXES = ("data", "fsdp", "tensor")
BATCH = P(("data", "fsdp"))

# Which dimension, counted from the end, the tensor axis splits; None = none.
TENSOR_RULES: tuple[tuple[str, int | None], ...] = leaf_rules(lambda row: row.kind.tensor)


def make_mesh(
    data: int,
    fsdp: int,
    tensor: int,
    slices: int = 0,
    devices: Sequence[jax.Device] | None = None,
) -> Mesh:
    """A mesh of all devices; one size may be -1 and takes what the others leave.

    slices: see `mesh_slices`. Where there are several, the data axis goes across them.
    """
    devices = jax.devices() if devices is None else devices
    sizes, count = [data, fsdp, tensor], len(devices)
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(
            f"mesh: sizes must be positive, one of them may be -1; got {_sizes(sizes)}"
        )
    fixed = int(np.prod([size for size in sizes if size != -1]))
    if -1 in sizes and count % fixed == 0:
        sizes[sizes.index(-1)] = count // fixed
    if -1 in sizes or int(np.prod(sizes)) != count:
        raise ValueError(f"mesh: {_sizes(sizes)} does not fill the {count} devices at hand")
    if sizes[0] * sizes[1] % jax.process_count():
        raise ValueError(
            f"mesh: data × fsdp = {sizes[0] * sizes[1]} must be a multiple of the "
            f"{jax.process_count()} processes, so that each loads its own images"
        )
    types = (AxisType.Auto,) * len(AXES)
    slices = mesh_slices(slices, sizes[0], devices)
    if slices == 1:
        mesh = jax.make_mesh(tuple(sizes), AXES, axis_types=types, devices=devices)
    else:
        mesh = Mesh(across_slices(sizes, slices, devices), AXES, axis_types=types)
    if jax.process_count() > 1:
        check_tensor_axis(mesh.devices)
    return mesh


def check_tensor_axis(devices: np.ndarray) -> None:
    """ValueError where devices (data, fsdp, tensor) that share rows are of several processes.

    Each process loads rows of its own, so that one of them would have another's images.
    """
    tensor = devices.shape[2]
    for row in devices.reshape(-1, tensor):
        processes = sorted({device.process_index for device in row})
        if len(processes) > 1:
            first, second = processes[:2]
            raise ValueError(
                f"mesh.tensor: {tensor} devices that work on the same images are of several "
                f"processes, {first} and {second}, and each loads its own; make it a divisor of "
                "a process's devices, or use mesh.fsdp across them"
            )


def _sizes(sizes: list[int]) -> str:
    return ", ".join(f"{axis}={size}" for axis, size in zip(AXES, sizes, strict=True))


def check_batch_size(mesh: Mesh, batch_size: int, field: str, accumulate: int = 1) -> None:
    """ValueError, before anything runs, unless the mesh divides the batch."""
    if accumulate < 1:
        raise ValueError(f"optim.accumulate: {accumulate} parts are none; 1 = the batch at once")
    if batch_size < 1:
        raise ValueError(f"{field}: {batch_size} images are none; expected 1 or more")
    shards = mesh.shape["data"] * mesh.shape["fsdp"] * accumulate
    if batch_size % shards:
        parts = f"data × fsdp = {shards // accumulate}"
        if accumulate > 1:
            parts += f", times optim.accumulate = {accumulate}"
        raise ValueError(f"{field}: {batch_size} is not a multiple of the mesh's {parts}")


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis split over data and fsdp."""
    return NamedSharding(mesh, BATCH)


def param_shardings(shapes: PyTree, mesh: Mesh, min_elements: float) -> PyTree:
    """A NamedSharding for each parameter of a tree of shapes.

    The tensor axis goes where TENSOR_RULES say. The fsdp axis takes the largest dimension that it
    divides and that is still free; arrays below `min_elements` are not worth its collectives.
    """
    tensor = Rules(TENSOR_RULES, "train/leaves.py")

    def place(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        name = name_of(path)
        axes: list[str | None] = [None] * len(leaf.shape)
        dim = tensor.of(name)
        if dim is not None and mesh.shape["tensor"] > 1:
            if leaf.shape[dim] % mesh.shape["tensor"]:
                raise ValueError(
                    f"mesh.tensor: {mesh.shape['tensor']} does not divide {leaf.shape[dim]}, "
                    f"dimension {dim} of {name} {leaf.shape}"
                )
            axes[dim] = "tensor"
        if mesh.shape["fsdp"] > 1 and int(np.prod(leaf.shape)) >= min_elements:
            free = [
                i
                for i, size in enumerate(leaf.shape)
                if axes[i] is None and size % mesh.shape["fsdp"] == 0
            ]
            if free:
                axes[max(free, key=lambda i: leaf.shape[i])] = "fsdp"
        return NamedSharding(mesh, P(*axes))

    return jax.tree_util.tree_map_with_path(place, shapes)


def frozen_shardings(shapes: PyTree, mesh: Mesh, sizes: "ConfigDict") -> PyTree:
    """Shardings of arrays that no step changes, by `config.mesh`: as parameters lie, or whole.

    With `fsdp_frozen` off the fsdp axis splits none of them, so that no step gathers them. The
    tensor axis, which splits the work as well, splits them in any case.
    """
    smallest = sizes.fsdp_min_elements if sizes.fsdp_frozen else math.inf
    return param_shardings(shapes, mesh, smallest)


def to_device(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """A process's rows of a batch → global arrays, split over the mesh.

    Every process has as many rows, so the global shape is stated: JAX would else take rows that
    several processes' devices share for the same ones, and not complain.
    """
    sharding, processes = batch_sharding(mesh), jax.process_count()
    return {
        name: jax.make_array_from_process_local_data(
            sharding, rows, (processes * len(rows), *rows.shape[1:])
        )
        for name, rows in batch.items()
    }


def place(tree: PyTree, shardings: PyTree) -> PyTree:
    """Host arrays, the same on every process, → arrays with these shardings.

    A device gets its share and never the whole; types are those of the host, where a cast belongs.
    """

    def put(leaf: np.ndarray, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(put, tree, shardings)


def bytes_a_device(shapes: PyTree, shardings: PyTree) -> int:
    """Bytes of a tree of arrays or shapes on one device."""
    leaves = zip(jax.tree.leaves(shapes), jax.tree.leaves(shardings), strict=True)
    return sum(
        math.prod(sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf, sharding in leaves
    )


def sharding_table(shapes: PyTree, shardings: PyTree) -> str:
    """One line a kind of parameter: how many, shape, where its dimensions lie."""
    groups: dict[tuple[str, str, str], int] = {}
    for (name, leaf), (_, sharding) in zip(
        named_leaves(shapes), named_leaves(shardings), strict=True
    ):
        general = "/".join(
            part.rstrip("0123456789") + "*" if part[-1:].isdigit() and "_" in part else part
            for part in name.split("/")
        )
        spec = tuple(sharding.spec) + (None,) * (len(leaf.shape) - len(sharding.spec))
        where = ", ".join(str(axis) if axis else "·" for axis in spec) or "·"
        if all(axis is None for axis in spec):
            where = "on every device"
        key = (general, "×".join(map(str, leaf.shape)) or "scalar", where)
        groups[key] = groups.get(key, 0) + 1
    width = max((len(name) for name, _, _ in groups), default=0)
    return "\n".join(
        f"  {name:<{width}}  {f'{number} ×' if number > 1 else '':>5} {shape:<16} {where}"
        for (name, shape, where), number in groups.items()
    )


def whole_on_host(tree: PyTree) -> PyTree:
    """Whole arrays on every process, wherever the mesh has their parts. All processes call it."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)
