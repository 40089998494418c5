"""Attention kernels that the compiler can't split: each device of a mesh runs one on its own part.

Nothing travels for that where images lie split over data and fsdp, and heads over tensor.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import PartitionSpec as P

from vit_jax_xfer.models.transformer.batch_axes import ROWS

HEADS = "tensor"  # the mesh's axis over which heads are split; see train/sharding.py


def per_device(
    attend: Callable[..., Any], *given: jax.Array | None, gives: str | tuple[str, ...] = "tokens"
) -> Any:
    """attend(*given) on each device's images and heads; as it is without a mesh.

    given: tensors (B, tokens, H, d), the first one of them, and biases (H, T, S); None is left out.
    gives: what comes of it, "tokens" (B, T, H, e) or "rows" (B, H, T), or a tuple of such. An axis
    of the mesh that does not divide the images or heads is left alone: its devices then compute
    the same.
    """
    arrays = [x for x in given if x is not None]
    mesh = jax.sharding.get_abstract_mesh()
    axes = [axis for axis in mesh.axis_names if axis not in mesh.manual_axes]
    if math.prod(mesh.shape[axis] for axis in axes) == 1:
        return attend(*arrays)
    rows = tuple(axis for axis in ROWS if axis in axes)
    batch, _, number, _ = arrays[0].shape
    if batch % math.prod(mesh.shape[axis] for axis in rows):
        rows = ()
    heads = HEADS if HEADS in axes and number % mesh.shape[HEADS] == 0 else None
    places = {"tokens": P(rows, None, heads, None), "rows": P(rows, heads, None)}
    bias = P(heads, None, None)
    return jax.shard_map(
        attend,
        in_specs=tuple(bias if x.ndim == 3 else places["tokens"] for x in arrays),
        out_specs=jax.tree.map(places.get, gives),
        axis_names=set(axes),
        check_vma=False,  # a Pallas kernel says nothing of what varies over a mesh
    )(*arrays)
