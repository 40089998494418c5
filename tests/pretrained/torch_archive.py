"""PyTorch's files written by hand, so that they may say what torch.save never would."""

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def text(value: str) -> bytes:
    """A string in a pickle."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """An integer in a pickle, of any size."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def name(module: str, attribute: str) -> bytes:
    """A class or a function in a pickle."""
    return b"c" + f"{module}\n{attribute}\n".encode()


def numbers(values: tuple[int, ...]) -> bytes:
    """A tuple of integers in a pickle."""
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(count: int, key: str = "0", kind: str = "FloatStorage") -> bytes:
    """A storage's persistent id."""
    parts = text("storage") + name("torch", kind) + text(key) + text("cpu") + number(count)
    return b"(" + parts + b"tQ"


def tensor(
    shape: tuple[int, ...],
    strides: tuple[int, ...] | None = None,
    offset: int = 0,
    stored: bytes | None = None,
) -> bytes:
    """A tensor in a pickle, whole in storage 0 where nothing else is said."""
    if strides is None:
        strides = tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))
    stored = storage(int(np.prod(shape))) if stored is None else stored
    parts = stored + number(offset) + numbers(shape) + numbers(strides) + b"\x89N"
    return name("torch._utils", "_rebuild_tensor_v2") + b"(" + parts + b"tR"


def mapping(items: Mapping[str, bytes]) -> bytes:
    """A dict in a pickle."""
    return b"}(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def write(path: Path, content: bytes, storages: Mapping[str, bytes] = {}, **members: bytes) -> None:
    """The archive of a pickle's value; members: others in it, such as byteorder."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + content + b".")
        for key, data in {**{f"data/{key}": x for key, x in storages.items()}, **members}.items():
            with archive.open(f"archive/{key}", "w", force_zip64=True) as file:
                file.write(data)
