"""An array out of a MATLAB file of version 5, as PF-WILLOW's keypoints are written.

SciPy's reader ends the process on some broken files. This one knows arrays of real numbers alone.
Source: "MAT-File Format", MathWorks, Level 5.
"""

import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

_HEADER = 128  # bytes, of which the last two are the order of all others
_UNPACKED = 2**20  # bytes at most; ten keypoints have some hundred
_MATRIX, _PACKED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
            13: "u8"}  # fmt: skip
_NUMERIC = range(6, 16)  # classes of arrays: double to uint64
_COMPLEX = 0x0800


def read_array(data: bytes, name: str) -> np.ndarray:
    """The array of that name, float64 in MATLAB's shape.

    KeyError where there is none; ValueError for what is no such file, or no array of real numbers.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[_HEADER - 2 : _HEADER])
    if order is None:
        raise ValueError("no MATLAB file of version 5")
    for kind, content in _elements(data[_HEADER:], order):
        if kind == _PACKED:
            content = _unpacked(content)
            kind, content = next(_elements(content, order), (0, b""))
        if kind == _MATRIX:
            parts = list(_elements(content, order))
            if len(parts) > 2 and parts[2][1].decode("latin-1") == name:
                return _array(parts, order)
    raise KeyError(name)


def _elements(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """(kind, content) of what stands one after the other."""
    place = 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        if kind >> 16:  # up to four bytes stand in the tag itself
            size, kind = min(kind >> 16, 4), kind & 0xFFFF
            yield kind, data[place + 4 : place + 4 + size]
            place += 8
            continue
        if place + 8 + size > len(data):
            raise ValueError("it is cut short")
        yield kind, data[place + 8 : place + 8 + size]
        place += 8 + size + (0 if kind == _PACKED else -size % 8)


def _unpacked(content: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(content, _UNPACKED)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if unpacker.unconsumed_tail:
        raise ValueError(f"it unpacks to more than {_UNPACKED:,} bytes")
    return data


def _array(parts: list[tuple[int, bytes]], order: str) -> np.ndarray:
    """The values of a matrix from its parts: flags, sides, name, numbers."""
    if len(parts) < 4 or len(parts[0][1]) < 4 or len(parts[1][1]) % 4:
        raise ValueError("an array without its parts")
    (flags,) = struct.unpack(f"{order}I", parts[0][1][:4])
    kind, values = parts[3]
    if flags & 0xFF not in _NUMERIC or flags & _COMPLEX or kind not in _NUMBERS:
        raise ValueError("no array of real numbers")
    sides = np.frombuffer(parts[1][1], f"{order}i4").tolist()
    numbers = np.dtype(order + _NUMBERS[kind])
    if min(sides, default=-1) < 0 or math.prod(sides) * numbers.itemsize != len(values):
        raise ValueError(f"an array of sides {sides} with {len(values)} bytes of numbers")
    return np.frombuffer(values, numbers).astype(np.float64).reshape(sides, order="F")
