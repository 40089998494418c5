"""What a run prints before its first step: parameters, memory, and where arrays lie."""

from typing import Any

import jax
import numpy as np

from vit_jax_xfer.train.sharding import sharding_table


def count_parameters(tree: Any) -> int:
    """Numbers in all arrays of a tree of arrays or shapes."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def overview(
    shapes: Any, shardings: Any, frozen_params: Any, teacher: Any, compiled: jax.stages.Compiled
) -> str:
    """Several lines: numbers of parameters, memory a device by the compiler, sharding table.

    shapes, shardings: of the parameters. frozen_params: True where one does not train. teacher:
    arrays outside the optimizer.
    """
    total = count_parameters(shapes)
    still = sum(
        int(np.prod(leaf.shape))
        for leaf, frozen in zip(
            jax.tree.leaves(shapes), jax.tree.leaves(frozen_params), strict=True
        )
        if frozen
    )
    parts = [f"{total:,}"]
    if still:
        parts.append(f"{total - still:,} of them trained")
    if jax.tree.leaves(teacher):
        parts.append(f"{count_parameters(teacher):,} more that stay frozen")
    lines = [f"parameters: {', '.join(parts)}", f"memory a device: {_memory(compiled)}"]
    if any(axis for sharding in jax.tree.leaves(shardings) for axis in sharding.spec):
        return "\n".join([*lines, "sharding:", sharding_table(shapes, shardings)])
    return "\n".join([*lines, f"sharding: every parameter whole on {_devices(shardings)}"])


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
