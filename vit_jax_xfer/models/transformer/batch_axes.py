"""Keeps a batch's images where a mesh has them, so that split parameters travel instead.

Left alone, the compiler may gather activations of the whole batch on every device where that looks
cheaper than gathering a parameter, and inside a scan over blocks it does so for good.
"""

import math

import jax
from jax.sharding import PartitionSpec as P

# The axes of a mesh over which a batch is split; see train/sharding.py.
ROWS: tuple[str, ...] = ("data", "fsdp")


def keep_rows(x: jax.Array) -> jax.Array:
    """x (B, …), its first axis split as a batch is; as it is outside of `jax.set_mesh`."""
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(axis for axis in ROWS if axis in mesh.axis_names)
    parts = math.prod(mesh.shape[axis] for axis in axes)
    if parts == 1 or x.shape[0] % parts:
        return x
    rest = [P.UNCONSTRAINED] * (x.ndim - 1)
    return jax.lax.with_sharding_constraint(x, P(axes, *rest))
