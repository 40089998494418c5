"""Attention kernels that the compiler can't split: each device of a mesh runs one on its own part.

Nothing travels for that where images lie split over data and fsdp, and heads over tensor.
"""

import math
from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec as P

from vit_jax_xfer.models.transformer.batch_axes import ROWS

HEADS = "tensor"  # the mesh's axis over which heads are split; see train/sharding.py


def per_device(
    attend: Callable[..., jax.Array | tuple[jax.Array, jax.Array]],
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    bias: jax.Array | None = None,
    with_rows: bool = False,
) -> jax.Array | tuple[jax.Array, jax.Array]:
    """attend(q, k, v[, bias]) on each device's images and heads; as it is without a mesh.

    q, k, v (B, tokens, H, d) and bias (H, T, S) or None → (B, T, H, e), and with_rows=True also
    statistics (B, H, T). An axis of the mesh that does not divide the images or heads is left
    alone: its devices then compute the same.
    """
    arrays = (q, k, v) if bias is None else (q, k, v, bias)
    mesh = jax.sharding.get_abstract_mesh()
    axes = [axis for axis in mesh.axis_names if axis not in mesh.manual_axes]
    if math.prod(mesh.shape[axis] for axis in axes) == 1:
        return attend(*arrays)
    rows = tuple(axis for axis in ROWS if axis in axes)
    if q.shape[0] % math.prod(mesh.shape[axis] for axis in rows):
        rows = ()
    heads = HEADS if HEADS in axes and q.shape[2] % mesh.shape[HEADS] == 0 else None
    tokens = P(rows, None, heads, None)
    return jax.shard_map(
        attend,
        in_specs=(tokens, tokens, tokens, P(heads, None, None))[: len(arrays)],
        out_specs=(tokens, P(rows, heads, None)) if with_rows else tokens,
        axis_names=set(axes),
        check_vma=False,  # a Pallas kernel says nothing of what varies over a mesh
    )(*arrays)
