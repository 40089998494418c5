"""Weight files of every kind, opened without reading the arrays or running what they hold."""

import argparse
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax_xfer.pretrained.damage import one_line_errors, refuse_other_content
from vit_jax_xfer.pretrained.lazy import Stored


def open_weights(path: Path) -> Mapping[str, Any]:
    """What a file holds: names with arrays that are still in it, perhaps inside other mappings.

    FileNotFoundError, or ValueError in one line that names the file when it is truncated, of an
    unknown kind, or holds pickled code. It must not change while its arrays are in use.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    reader = _reader(path)
    if reader is None or not path.is_file():
        raise ValueError(
            f"{path}: neither a file that ends in {', '.join(ENDINGS)} nor a model directory"
        )
    refuse_other_content(path)
    with one_line_errors(str(path)):
        content = reader(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds a {type(content).__name__}, expected names and arrays")
    return content


def is_weights_file(path: Path) -> bool:
    """Whether this is a file whose name ends like one that `open_weights` takes."""
    return _reader(path) is not None and path.is_file()


def _open_npz(path: Path) -> dict[str, Stored]:
    if not zipfile.is_zipfile(path):
        raise ValueError("truncated, or not an .npz file")
    archive = zipfile.ZipFile(path)
    return {
        member.filename.removesuffix(".npy"): _stored_npy(archive, member)
        for member in archive.infolist()
    }


def _stored_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Stored:
    """One array of an .npz file, of which only the header is read."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        # Version 3 only adds names of fields in other alphabets, which no array of numbers has.
        headers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in headers:
            raise ValueError(f"{member.filename} is an .npy of version {version}")
        shape, _, dtype = headers[version](file)
        header = file.tell()
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds pickled objects, which are never unpickled")
    # Else a header of a few bytes could ask for any amount of memory.
    if header + math.prod(shape) * dtype.itemsize != member.file_size:
        raise ValueError(f"{member.filename} is not as long as its shape {shape} says")

    def read() -> np.ndarray:
        with archive.open(member) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    return Stored(shape, dtype.name, read)


def _open_safetensors(path: Path) -> dict[str, Stored]:
    try:
        import safetensors
    except ImportError as error:
        raise ImportError(f"{path}: needs `pip install vit_jax_xfer[hf]`") from error
    file = safetensors.safe_open(path, framework="np")
    stored = {}
    for name in file.keys():  # noqa: SIM118 (no mapping)
        part = file.get_slice(name)
        dtype = _SAFETENSORS_TYPES.get(part.get_dtype(), part.get_dtype())
        shape = tuple(part.get_shape())
        stored[name] = Stored(shape, dtype, lambda name=name: file.get_tensor(name))
    return stored


def _open_torch(path: Path) -> Any:
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


_SAFETENSORS_TYPES = {
    "BOOL": "bool",
    "BF16": "bfloat16",
    **{f"F{bits}": f"float{bits}" for bits in (16, 32, 64)},
    **{f"I{bits}": f"int{bits}" for bits in (8, 16, 32, 64)},
    **{f"U{bits}": f"uint{bits}" for bits in (8, 16, 32, 64)},
}

_READERS: dict[str, Callable[[Path], Any]] = {
    ".npz": _open_npz,
    ".safetensors": _open_safetensors,
    ".pth": _open_torch,
    ".pt": _open_torch,
    ".bin": _open_torch,
    ".ckpt": _open_torch,
    ".pth.tar": _open_torch,
}
ENDINGS = tuple(_READERS)


def _reader(path: Path) -> Callable[[Path], Any] | None:
    name = path.name.lower()
    return next((reader for end, reader in _READERS.items() if name.endswith(end)), None)
