"""What a run prints before its first step: parameters, memory, and where arrays lie."""

from typing import Any

import jax
import numpy as np

from vit_jax_xfer.train.compile import Program
from vit_jax_xfer.train.sharding import bytes_a_device, sharding_table


def count_parameters(tree: Any) -> int:
    """Numbers in all arrays of a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def overview(program: Program, compiled: jax.stages.Compiled) -> str:
    """Several lines: numbers of parameters, memory a device by the compiler, sharding table."""
    shapes, shardings = program.shapes.params, program.shardings.params
    total = count_parameters(shapes)
    still = sum(
        int(np.prod(leaf.shape))
        for leaf, frozen in zip(
            jax.tree.leaves(shapes), jax.tree.leaves(program.optimizer.frozen), strict=True
        )
        if frozen
    )
    parts = [f"{total:,}"]
    if still:
        parts.append(f"{total - still:,} of them trained")
    lines = [f"memory a device: {_memory(compiled)}"]
    if jax.tree.leaves(program.frozen_shapes):
        parts.append(f"{count_parameters(program.frozen_shapes):,} more that stay frozen")
        lines.append(_frozen(program.frozen_shapes, program.frozen_shardings))
    lines = [f"parameters: {', '.join(parts)}", *lines]
    if any(axis for sharding in jax.tree.leaves(shardings) for axis in sharding.spec):
        return "\n".join([*lines, "sharding:", sharding_table(shapes, shardings)])
    return "\n".join([*lines, f"sharding: every parameter whole on {_devices(shardings)}"])


def _frozen(shapes: Any, shardings: Any) -> str:
    """How many bytes a device has of the arrays that stay frozen, and of how many."""
    here = bytes_a_device(shapes, shardings)
    whole = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    if here == whole:
        return f"frozen: {size_text(whole)}, whole on every device"
    axes = {axis for sharding in jax.tree.leaves(shardings) for axis in sharding.spec if axis}
    split = " and ".join(sorted(axes))
    return f"frozen: {size_text(here)} of {size_text(whole)} on each device, split over {split}"


def _devices(shardings: Any) -> str:
    count = next(iter(jax.tree.leaves(shardings))).mesh.size
    return "the one device" if count == 1 else f"each of {count} devices, the batch split over them"


def _memory(compiled: jax.stages.Compiled) -> str:
    analysis = compiled.memory_analysis()
    if analysis is None:
        return "unknown, this backend does not tell"
    arguments, temporary = analysis.argument_size_in_bytes, analysis.temp_size_in_bytes
    return (
        f"about {size_text(arguments + temporary)} ({size_text(arguments)} of state, teacher and "
        f"batch, {size_text(temporary)} of activations)"
    )


def size_text(count: float) -> str:
    """A number of bytes in the unit that suits it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError
