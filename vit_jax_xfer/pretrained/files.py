"""Weights read from a file as {name: array}, without running anything that the file holds."""

import argparse
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vit_jax_xfer.pretrained.names import State

# Where training scripts put the weights, beside the optimizer and the epoch; the first one counts.
WRAPPERS = ("model", "state_dict", "model_state_dict")
# What wrapping modules (data parallel, torch.compile, trainers) put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")


def read_state(source: str | os.PathLike[str] | Mapping[str, Any]) -> State:
    """{publisher's name: numpy array} of a file or of a mapping of arrays.

    source: .npz, .safetensors, .pth, .pt, .bin, or a mapping (numpy, jax or torch arrays).
    Wrappers ({"model": …}) and prefixes that all names share ("module.") are taken off; every
    floating type becomes float32. FileNotFoundError or ValueError in one line that names the file
    when it is missing, truncated, of an unknown kind, or holds pickled code.
    """
    if isinstance(source, Mapping):
        return _unwrap(source, "source")
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    reader = _READERS.get(path.suffix.lower())
    if reader is None or not path.is_file():
        raise ValueError(
            f"{path}: neither a file that ends in {', '.join(_READERS)} nor a model directory"
        )
    try:
        content = reader(path)
    except ImportError:
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path}: truncated, or holds pickled objects other than arrays, which are never "
            f"unpickled ({_one_line(error)})"
        ) from error
    except (*_DAMAGE, *_safetensors_error()) as error:
        raise ValueError(f"{path}: cannot be read ({_one_line(error)})") from error
    return _unwrap(content, str(path))


def _read_npz(path: Path) -> Mapping[str, Any]:
    if not zipfile.is_zipfile(path):
        raise ValueError("truncated, or not an .npz file")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(f"{path}: needs `pip install vit_jax_xfer[hf]`") from error
    with safetensors.safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _read_torch(path: Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"{path}: needs `pip install vit_jax_xfer[torch]`") from error
    # MAE's, DINO's and timm's training scripts save their arguments beside the weights. The
    # restricted unpickler only fills a Namespace's attributes, which runs nothing.
    with torch.serialization.safe_globals([argparse.Namespace]):
        # Only zip archives (PyTorch 1.6 and later) can be mapped.
        return torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )


_READERS: dict[str, Callable[[Path], Mapping[str, Any]]] = {
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pth": _read_torch,
    ".pt": _read_torch,
    ".bin": _read_torch,
}

# What the readers raise on a damaged file, beside pickle's own error.
_DAMAGE = (
    ValueError,
    RuntimeError,
    OSError,
    EOFError,
    KeyError,
    AttributeError,
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
)


def _safetensors_error() -> tuple[type[Exception], ...]:
    try:
        from safetensors import SafetensorError
    except ImportError:
        return ()
    return (SafetensorError,)


def _unwrap(content: Any, where: str) -> State:
    """The innermost mapping of arrays, its names without shared prefixes."""
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: holds a {type(content).__name__}, expected names and arrays")
    for wrapper in WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            return _unwrap(content[wrapper], where)
    state = dict(content)
    for prefix in PREFIXES:
        if state and all(str(name).startswith(prefix) for name in state):
            return _unwrap({name[len(prefix) :]: value for name, value in state.items()}, where)
    if not state:
        raise ValueError(f"{where}: holds no arrays")
    return {str(name): _as_numpy(value, f"{where}: {name}") for name, value in state.items()}


def _as_numpy(value: Any, where: str) -> np.ndarray:
    """A numpy, jax or torch array as numpy; every floating type as float32."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise ValueError(f"{where} is a {type(value).__name__}, expected an array")
    if hasattr(value, "detach"):  # torch, whose bfloat16 numpy does not take
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    array = np.asarray(value)
    if array.dtype.kind in "iub":
        return array
    if array.dtype.kind == "f" or array.dtype == ml_dtypes.bfloat16:
        return array.astype(np.float32, copy=False)
    raise ValueError(f"{where} is of type {array.dtype}, expected numbers")


def _one_line(error: Exception) -> str:
    """The first line of what a reader says, shortened: the rest is advice on unsafe loading."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
