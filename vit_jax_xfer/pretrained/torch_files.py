"""PyTorch's files without PyTorch: what torch.save wrote, its arrays still in the file.

A zip archive since PyTorch 1.6 (data.pkl beside one uncompressed member for each storage), before
that pickles one behind the other and the storages behind them. Nothing in a file is ever run
(pickle_machine.py); an object of an unknown class is an `Unbuilt`.
"""

import dataclasses
import functools
import math
import mmap
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from vit_jax_xfer.pretrained.lazy_arrays import RefusedFile, Stored, Unbuilt, is_array
from vit_jax_xfer.pretrained.pickle_machine import Builder, PickleMachine
from vit_jax_xfer.pretrained.pickled_values import BUILDERS

# By the names of torch's storages. What complex, quantised and 8-bit floating numbers mean isn't
# said by an array alone, so that these are refused by their names once they are to be weights.
_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
    "QUInt4x2": "quint4x2",
    "QUInt2x4": "quint2x4",
    "Untyped": "uint8",
}
_SIZES = {
    **{"bool": 1, "bfloat16": 2, "complex64": 8, "complex128": 16, "qint32": 4},
    **{f"{kind}{8 * size}": size for kind in ("int", "uint") for size in (1, 2, 4, 8)},
    **{f"float{8 * size}": size for size in (2, 4, 8)},
}
# A stride of 0 makes one number many; more than these are no more than the file holds.
_ALWAYS_EXPANDED = 2**16
_LEGACY_VERSION = 1001
_LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # a number, as pickles write it


@dataclasses.dataclass
class Storage:
    """Numbers side by side in a file.

    count: how many of `dtype`. order: "<" or ">". start: of their bytes in the file; None = not
    known yet. checksum: CRC-32 of all of them, None = not known.
    """

    path: Path
    count: int
    dtype: str
    order: str
    start: int | None = None
    checksum: int | None = None

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.count * _size_of(self.dtype)


def open_torch(path: Path) -> Any:
    """What torch.save wrote: plain values and `Stored` arrays.

    ValueError where the file is damaged, of another kind, or asks for what could do harm.
    """
    if zipfile.is_zipfile(path):
        return _open_zip(path)
    with path.open("rb") as file:
        start = file.read(len(_LEGACY_MAGIC) + 11)  # behind the pickle's own head
    if _LEGACY_MAGIC in start:
        return _open_legacy(path)
    if start.startswith(b"PK"):
        raise ValueError("truncated: a zip archive without its end")
    if tarfile.is_tarfile(path):
        raise RefusedFile(
            "is a tar archive, as PyTorch before 0.1.10 wrote; where you trust it save it again: "
            "torch.save(torch.load(…, weights_only=False), …)"
        )
    raise ValueError("truncated, or none of PyTorch's files")


def _open_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        pickles = [name for name in members if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(pickles) != 1:
            raise ValueError(f"a zip archive with {len(pickles)} data.pkl, expected one")
        prefix = pickles[0].removesuffix("data.pkl")
        order = _byte_order(path, members.get(f"{prefix}byteorder"))
    data = _member_bytes(path, members[pickles[0]])

    def storage(identity: Any) -> Storage:
        key, count, dtype = _identity(identity)
        member = members.get(f"{prefix}data/{key}")
        if member is None:
            raise ValueError(f"no member data/{key}, in which an array lies")
        start, size = _place(path, member)
        found = Storage(path, count, dtype, order, start, member.CRC or None)
        if size != found.size:
            raise ValueError(f"data/{key} holds {size} bytes, not {count} numbers of {dtype}")
        return found

    return PickleMachine(data, _BUILDERS, storage).load()


def _byte_order(path: Path, member: zipfile.ZipInfo | None) -> str:
    said = b"little" if member is None else _member_bytes(path, member)
    orders = {b"little": "<", b"big": ">"}
    if said not in orders:
        raise ValueError("byteorder says neither little nor big")
    return orders[said]


def _member_bytes(path: Path, member: zipfile.ZipInfo) -> bytes:
    """A member's bytes. Its checksum may be 0: torch.save can leave checksums out."""
    start, size = _place(path, member)
    with path.open("rb") as file:
        file.seek(start)
        data = file.read(size)
    if member.CRC and zlib.crc32(data) != member.CRC:
        raise ValueError(f"{member.filename} is damaged: the checksum of its bytes is another")
    return data


def _place(path: Path, member: zipfile.ZipInfo) -> tuple[int, int]:
    """Where a member's bytes begin in the file, and how many they are."""
    name = member.filename.partition("/")[2]
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
        raise ValueError(f"{name} is packed, which torch.save never does; save the file again")
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(30)
        whole = file.seek(0, 2)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise ValueError(f"{name} is not where the archive says")
    lengths = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    start = member.header_offset + 30 + sum(lengths)
    if start + member.file_size > whole:
        raise ValueError(f"truncated in {name}")
    return start, member.file_size


def _open_legacy(path: Path) -> Any:
    """Five pickles: a magic number, a version, the writer's machine, the content, storages' keys.

    Then each storage in the order of keys: its length, then its bytes.
    """
    storages: dict[str, Storage] = {}

    def storage(identity: Any) -> Storage:
        key, count, dtype = _identity(identity)
        found = storages.setdefault(key, Storage(path, count, dtype, "<"))
        if (found.count, found.dtype) != (count, dtype):
            raise ValueError(f"storage {key} is there in two types or sizes")
        return found

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        position, values = 0, []
        for _ in range(5):
            machine = PickleMachine(data, _BUILDERS, storage, position)
            values.append(machine.load())
            position = machine.position
        _, version, writer, content, keys = values
        if version != _LEGACY_VERSION or not isinstance(writer, dict) or not isinstance(keys, list):
            raise ValueError(f"PyTorch's old format of version {version!r}, which is unknown")
        order = "<" if writer.get("little_endian", True) else ">"
        for key in keys:
            found = storages.pop(key)
            _place_legacy(found, data, position, order)
            position += 8 + found.size
        if storages:
            raise ValueError(f"no storage {min(storages)}, in which an array lies")
    return content


def _place_legacy(storage: Storage, data: mmap.mmap, position: int, order: str) -> None:
    stated = data[position : position + 8]
    written = storage.count.to_bytes(8, "little" if order == "<" else "big")
    if stated != written or position + 8 + storage.size > len(data):
        raise ValueError(f"truncated in a storage of {storage.count} numbers of {storage.dtype}")
    storage.start, storage.order = position + 8, order


def _identity(identity: Any) -> tuple[str, int, str]:
    """Key, number of numbers and type of ("storage", class, key, device, number[, view])."""
    if not isinstance(identity, tuple) or not 5 <= len(identity) <= 6 or identity[0] != "storage":
        raise ValueError("an outside object that is no storage")
    _, kind, key, _, count, *view = identity
    name = kind.name if isinstance(kind, Unbuilt) else ""
    found = re.fullmatch(r"torch\.(?:cuda\.|storage\.)?(\w+)Storage", name)
    if not found or found[1] not in _STORAGES:
        raise ValueError(f"a storage of the unknown class {name[:80]!r}")
    if not isinstance(count, int) or count < 0 or view not in ([], [None]):
        raise ValueError(f"storage {str(key)[:40]} without a number of numbers of its own")
    return str(key), count, _STORAGES[found[1]]


def _size_of(dtype: str) -> int:
    """Bytes of a number. Those with less than 8 bits lie in bytes together."""
    if dtype not in _SIZES and not re.match("q?u?int[1-8]|float[48]_", dtype):
        raise ValueError(f"numbers of the unknown type {dtype[:40]!r}")
    return _SIZES.get(dtype, 1)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Stored:
    """An array of a storage, after checking that it lies inside of it."""
    if not isinstance(storage, Storage):
        raise ValueError(f"a tensor in a {type(storage).__name__}, expected a storage")
    sizes = [offset, *shape, *strides]
    if not all(isinstance(one, int) and one >= 0 for one in sizes) or len(shape) != len(strides):
        raise ValueError(f"a tensor of shape {shape}, strides {strides} and offset {offset}"[:200])
    number = math.prod(shape)
    span = 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if number else 0
    if offset + span > storage.count:
        raise ValueError(f"a tensor of shape {shape} in {storage.count} numbers"[:200])
    if number > max(storage.count, _ALWAYS_EXPANDED):
        raise ValueError(f"a tensor expanded to shape {shape}; save it contiguous"[:200])
    read = functools.partial(_read, storage, offset, span, tuple(shape), tuple(strides))
    return Stored(tuple(shape), storage.dtype, read)


def _tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, _grad: Any, _hooks: Any, kind: Any, *_: Any
) -> Stored:
    """As `_tensor`, of a storage that counts bytes."""
    dtype = _named(kind).removeprefix("torch.")
    whole = dataclasses.replace(storage, count=storage.count // _size_of(dtype), dtype=dtype)
    return _tensor(whole, offset, shape, strides)


def _read(
    storage: Storage, offset: int, span: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> np.ndarray:
    size = _size_of(storage.dtype)
    start = storage.start + offset * size
    data = np.fromfile(storage.path, np.uint8, span * size, offset=start)
    if data.size != span * size:
        raise ValueError(f"truncated: {data.size} bytes, expected {span * size}")
    whole = data.size == storage.size and storage.checksum is not None
    if whole and zlib.crc32(data) != storage.checksum:
        raise ValueError("damaged: the checksum of its bytes is another")
    if size > 1 and storage.order == ">":
        data = data.view(f">u{size}").astype(f"<u{size}")
    dtype = np.dtype(getattr(ml_dtypes, storage.dtype, storage.dtype))
    numbers = data.view(dtype)
    steps = [stride * dtype.itemsize for stride in strides]
    strided = np.lib.stride_tricks.as_strided(numbers, shape, steps)
    return np.ascontiguousarray(strided).reshape(shape)


def _named(value: Any) -> str:
    if not isinstance(value, Unbuilt):
        raise ValueError(f"a {type(value).__name__} where a name belongs")
    return value.name


def _array(data: Any, *_: Any) -> Any:
    """What a parameter holds: an array, or something that was refused as one already."""
    if not is_array(data) and not isinstance(data, Unbuilt):
        raise ValueError(f"a tensor of a {type(data).__name__}")
    return data


def _of_class(rebuild: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """A tensor of another class; what an unknown one holds may mean anything."""
    if _named(kind) not in _TENSORS or not isinstance(rebuild, Builder):
        return Unbuilt(_named(kind))
    return rebuild.build(*arguments)


def _device(kind: Any, number: Any = None) -> str:
    return f"{kind}" if number is None else f"{kind}:{number}"


_TENSORS = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")

_BUILDERS: dict[str, Callable[..., Any]] = {
    **BUILDERS,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_parameter": _array,
    "torch._utils._rebuild_parameter_with_state": _array,
    "torch._utils._rebuild_device_tensor_from_numpy": _array,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _array,
    "torch._tensor._rebuild_from_type_v2": _of_class,
    "torch.Size": lambda sizes=(): tuple(sizes),
    "torch.device": _device,
}
