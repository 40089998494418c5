"""Weight files and folders of every kind, opened without reading arrays or running what they hold.

A file: .npz, .safetensors, PyTorch's or Flax's. A folder: as on the Hugging Face hub, one weights
file or shards, beside JSON files; or a tree of arrays of Orbax or T5X. What is wrong with one is
said in one line that names it.
"""

import json
import math
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from vit_jax_xfer.pretrained.lazy_arrays import Stored, Unbuilt, is_array, one_line_errors
from vit_jax_xfer.pretrained.refused_weights import refuse_adapter, refuse_format
from vit_jax_xfer.pretrained.torch_files import open_torch
from vit_jax_xfer.pretrained.tree_files import (
    is_flax_checkpoint,
    is_tree_folder,
    open_msgpack,
    open_tree_folder,
    steps_in,
)

# In the order in which they are looked for.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "flax_model.msgpack",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
# Weights hardly pack at all; zeros alone do a thousandfold, and so do bombs.
_MOST_PACKED = 100
_ALWAYS_UNPACKED = 2**28  # bytes of an array
_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")


def open_weights(path: Path) -> Mapping[str, Any]:
    """What a file holds: names with arrays that are still in it, perhaps inside other mappings.

    FileNotFoundError, or ValueError in one line that names the file when it is truncated, of an
    unknown kind, or holds pickled code. It must not change while its arrays are in use.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    refuse_format(path)
    reader = _reader(path)
    if reader is None or not path.is_file():
        raise ValueError(
            f"{path}: neither a file that ends in {', '.join(ENDINGS)} nor a model directory"
        )
    refuse_other_content(path)
    with one_line_errors(str(path)):
        content = reader(path)
    if isinstance(content, Unbuilt):
        raise ValueError(
            f"{path}: holds a whole {content.name}, whose code is not run; save its state_dict()"
        )
    if not isinstance(content, Mapping):
        kind = "single array" if is_array(content) else type(content).__name__
        raise ValueError(f"{path}: holds a {kind}, expected names and arrays")
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
    if member.file_size > max(_ALWAYS_UNPACKED, _MOST_PACKED * member.compress_size):
        raise ValueError(
            f"{member.filename} would unpack {member.compress_size:,} bytes to "
            f"{member.file_size:,}, expected {_MOST_PACKED} times as many at most"
        )
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
    import safetensors  # here, because networks without a file need jax and flax alone

    file = safetensors.safe_open(path, framework="np")
    stored = {}
    for name in file.keys():  # noqa: SIM118 (no mapping)
        part = file.get_slice(name)
        dtype = _SAFETENSORS_TYPES.get(part.get_dtype(), part.get_dtype())
        shape = tuple(part.get_shape())
        stored[name] = Stored(shape, dtype, lambda name=name: file.get_tensor(name))
    return _with_shared(stored, file.metadata())


def _with_shared(stored: Mapping[str, Any], metadata: Any) -> dict[str, Any]:
    """The same with the names whose array is stored once, under the name of another.

    safetensors' save_model says {name: stored name} in the file's metadata; of shards the index
    does. Without them a network whose last blocks are its first ones would be a shallower one.
    """
    told = metadata if isinstance(metadata, dict) else {}
    shared = {
        name: stored[other]
        for name, other in told.items()
        if isinstance(other, str) and other in stored and name not in stored
    }
    return {**stored, **shared}


def open_directory(folder: Path) -> Mapping[str, Any]:
    """What the folder's weights file holds, or all shards of its index together, arrays unread.

    Without any of WEIGHTS, the only weights file there. ValueError when there is none or a choice,
    and when index and shards disagree; FileNotFoundError for a missing shard.
    """
    for name in WEIGHTS:
        path = folder / name
        # An entry that is there but leads nowhere, as in an unfinished download, must not be
        # passed over for another one.
        if path.exists() or path.is_symlink():
            return _open_shards(path) if name.endswith(".json") else open_weights(path)
    if is_tree_folder(folder):
        return open_tree_folder(folder)
    if steps := steps_in(folder):
        raise ValueError(f"{folder}: holds steps of a run; pass one of them, as {steps[-1]}")
    refuse_adapter(folder)
    files = sorted(path for path in folder.iterdir() if is_weights_file(path))
    if len(files) == 1:
        return open_weights(files[0])
    for path in folder.iterdir():
        refuse_format(path)
    if files:
        names = ", ".join(path.name for path in files)
        raise ValueError(f"{folder}: holds several weights files; pass one of {names}")
    raise ValueError(
        f"{folder}: no weights here; looked for {', '.join(WEIGHTS)} and for files that end in "
        f"{', '.join(ENDINGS)}"
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None where there is no such file. ValueError when it is something else."""
    if not path.exists():
        return None
    refuse_other_content(path)
    with one_line_errors(str(path)):
        content = json.loads(path.read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"a JSON {type(content).__name__}, expected an object")
    return content


def _open_shards(index: Path) -> dict[str, Any]:
    """{name: array} over all shards that an index file lists."""
    content = read_json(index) or {}
    files = content.get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise ValueError(f"{index}: no weight_map of names and files")
    arrays: dict[str, Any] = {}
    for file in sorted(set(files.values())):
        path = index.parent / _safe(file, index)
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file, but {index.name} lists it")
        shard = open_weights(path)
        listed = {name for name in files if files[name] == file}
        # A name that only one of them has would be missing or unused in silence.
        absent, extra = sorted(listed - set(shard)), sorted(set(shard) - listed)
        if absent:
            raise ValueError(f"{path}: lacks {_brief(absent)}, which {index.name} puts there")
        if extra:
            raise ValueError(f"{path}: holds {_brief(extra)}, which {index.name} does not list")
        arrays.update(shard)
    return _with_shared(arrays, content.get("metadata"))


def _safe(file: str, index: Path) -> str:
    """A shard's name as it is. ValueError when it leads out of the folder."""
    path = PureWindowsPath(file)  # knows the separators, roots and drives of every system
    if path.drive or path.root or ".." in path.parts or not path.parts:
        raise ValueError(f"{index}: shard {file!r} is not inside the folder, so it is not opened")
    return file


def _brief(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def refuse_other_content(path: Path) -> None:
    """ValueError for files that hold no weights whatever they are called.

    These are empty files, Git LFS pointers, web pages and TorchScript archives.
    """
    with path.open("rb") as file:
        start = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        raise ValueError(f"{path}: is empty; download it again")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(f"{path}: is a Git LFS pointer, not the weights; run `git lfs pull` there")
    if start.startswith(_PAGE):
        raise ValueError(f"{path}: is a web page, not weights; download the file that it leads to")
    if _is_torchscript(path):
        raise ValueError(
            f"{path}: is a TorchScript archive, which holds code, so it is not opened; take the "
            "same weights as a Hugging Face directory, or where you trust the file save them once: "
            "torch.save(torch.jit.load(…).state_dict(), …)"
        )


def _is_torchscript(path: Path) -> bool:
    """Whether a zip file has what torch.jit.save writes and torch.save does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError):
        return False  # or damaged, which the reader will find
    return any(re.fullmatch(r"[^/]+/(constants\.pkl|code/.*)", name) for name in names)


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
    ".pth": open_torch,
    ".pt": open_torch,
    ".bin": open_torch,
    ".ckpt": open_torch,
    ".pth.tar": open_torch,
    ".msgpack": open_msgpack,
}
ENDINGS = tuple(_READERS)


def _reader(path: Path) -> Callable[[Path], Any] | None:
    if is_flax_checkpoint(path):
        return open_msgpack
    name = path.name.lower()
    return next((reader for end, reader in _READERS.items() if name.endswith(end)), None)
