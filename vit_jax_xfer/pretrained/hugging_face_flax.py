"""transformers' Flax networks (flax_model.msgpack) → the names and layouts of its PyTorch ones.

Modules are called alike in both. Flax keeps kernels as (in, out) and (height, width, in, out).
"""

import functools
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax_xfer.pretrained.lazy_arrays import LazyState, Stored

_SIGNATURE = re.compile(r"(?:.+/)?layers?/\d+/.+/(?:kernel|scale)")
_AXES = {2: (1, 0), 4: (3, 2, 0, 1)}
_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}


def in_pytorch_names(arrays: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arrays under PyTorch's names where they are transformers' in Flax; else as they are."""
    if not any(_SIGNATURE.fullmatch(name) for name in arrays):
        return dict(arrays)
    found = {}
    for name, stored in LazyState(arrays, where).stored.items():
        *modules, leaf = name.split("/")
        turned = leaf == "kernel" and len(stored.shape) in _AXES
        found[".".join([*modules, _LEAVES.get(leaf, leaf)])] = _turned(stored) if turned else stored
    return found


def _turned(stored: Stored) -> Stored:
    axes = _AXES[len(stored.shape)]
    shape = tuple(stored.shape[axis] for axis in axes)
    return Stored(shape, stored.dtype, functools.partial(_read_turned, stored, axes))


def _read_turned(stored: Stored, axes: tuple[int, ...]) -> np.ndarray:
    return np.asarray(stored.read()).transpose(axes)
