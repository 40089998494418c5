"""Devices in groups whose own network is faster than the one between them: slices of TPUs.

Gradients cross the slow network once a step, parameters and activations would many times. So slices
lie along the data axis, outermost, and the axes fsdp and tensor stay inside of one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.experimental import mesh_utils


def mesh_slices(asked: int, data: int, devices: Sequence[Any]) -> int:
    """How many slices a mesh has. ValueError, naming the field, where it can't.

    asked: 0 = as many as the devices say they are of, or 1 where those don't divide the data axis;
    1 = take no notice of them; else that many, by slice or by process. Devices of a CPU, which are
    of none, are as many as asked.
    """
    if asked < 0:
        raise ValueError(f"mesh.slices: {asked} slices are none; 0 = as the devices say")
    found = _number(devices, "slice_index")
    if asked == 0:
        return found if data % found == 0 else 1
    if data % asked:
        raise ValueError(
            f"mesh.slices: data = {data} is not a multiple of the {asked} slices, which it goes "
            "across; change mesh.data, or 1 = take no notice of slices"
        )
    alone = found == 1 and devices[0].platform == "cpu"
    if asked not in (1, found, _number(devices, "process_index")) and not alone:
        raise ValueError(
            f"mesh.slices: {asked}, and the devices are of {found}; 0 = as the devices say"
        )
    return asked


def across_slices(sizes: Sequence[int], slices: int, devices: Sequence[Any]) -> np.ndarray:
    """The devices in a mesh's shape (data, fsdp, tensor), one slice after the other along data."""
    by = next(
        (by for by in ("slice_index", "process_index") if _number(devices, by) == slices), None
    )
    if by is None:
        return np.asarray(devices, dtype=object).reshape(sizes)
    data, *inside = sizes
    return mesh_utils.create_hybrid_device_mesh(
        (data // slices, *inside),
        (slices, *(1 for _ in inside)),
        devices,
        process_is_granule=by == "process_index",
        allow_split_physical_axes=True,
    )


def _number(devices: Sequence[Any], attribute: str) -> int:
    return len({getattr(device, attribute, 0) for device in devices})
