"""What may be built out of a pickle besides torch's tensors: containers, paths, numpy's values.

Each builder takes the arguments that stand in a file, which may be anything, and raises a
ValueError or TypeError where they are wrong.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from vit_jax_xfer.pretrained.lazy_arrays import Unbuilt
from vit_jax_xfer.pretrained.pickle_machine import Attributes, hashable

# numpy.dtype("f4") and the like: no fields, no objects, no dates.
_NUMBER_TYPE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16")
_ENCODINGS = ("latin1", "latin-1", "utf-8", "ascii")


class NumpyType:
    """A numpy.dtype of numbers; its byte order comes behind it."""

    def __init__(self, code: Any, *_: Any) -> None:
        code = code.decode("ascii") if isinstance(code, bytes) else code
        if not isinstance(code, str) or not _NUMBER_TYPE.fullmatch(code):
            raise ValueError(f"a numpy.dtype of {str(code)[:40]!r}, expected numbers")
        self.dtype = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """(version, byte order, …)."""
        if state[1] not in ("<", ">", "|", "=", b"<", b">", b"|", b"="):
            raise ValueError("a numpy.dtype without a byte order")
        if state[1] in (">", b">"):
            self.dtype = self.dtype.newbyteorder(">")


class NumpyArray:
    """A numpy array, whose shape, type and bytes come behind it."""

    def __init__(self, *_: Any) -> None:
        self._array = np.empty(0)

    def set_state(self, state: Any) -> None:
        """(version, shape, dtype, whether in Fortran's order, bytes)."""
        _, shape, kind, fortran, data = state
        self._array = array_of(data, kind, shape, "F" if fortran else "C")

    @property
    def shape(self) -> tuple[int, ...]:
        """As numpy's."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype:
        """As numpy's."""
        return self._array.dtype

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array if dtype is None else self._array.astype(dtype)


def array_of(data: Any, kind: Any, shape: Any, order: str = "C") -> np.ndarray:
    """The array of these bytes. ValueError where they aren't as many as its shape says."""
    if not isinstance(kind, NumpyType) or not isinstance(data, bytes):
        raise ValueError("a numpy array of other things than numbers")
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        raise ValueError("a numpy array without a shape")
    if math.prod(shape) * kind.dtype.itemsize != len(data):
        raise ValueError(f"a numpy array of {len(data)} bytes, not as its shape {shape} says")
    return np.frombuffer(data, kind.dtype).reshape(shape, order=order)


def _numpy_scalar(kind: Any, data: Any) -> Any:
    return array_of(data, kind, ()).item()


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any = "C") -> np.ndarray:
    return array_of(bytes(data), kind, shape, "F" if order == "F" else "C")


def _encoded(text: str, encoding: Any = "utf-8") -> bytes:
    """How Python's pickles of protocol 2 write bytes."""
    if encoding not in _ENCODINGS:
        raise ValueError(f"bytes in the encoding {str(encoding)[:40]!r}")
    return text.encode(encoding)


def _byte_array(data: Any = b"", *encoding: Any) -> bytes:
    return _encoded(data, *encoding) if isinstance(data, str) else _of_kind(data, bytes)


def _of_kind(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _mapping(pairs: Any = ()) -> dict[Any, Any]:
    """A dict of a dict, or of pairs."""
    pairs = pairs.items() if isinstance(pairs, Mapping) else _of_kind(pairs, list | tuple)
    return {hashable(key): value for key, value in pairs}


def _set(kind: type) -> Callable[..., Any]:
    def build(items: Iterable[Any] = ()) -> Any:
        return kind(map(hashable, _of_kind(items, list | tuple)))

    return build


def _path(*parts: Any) -> str:
    return str(PurePosixPath(*(_of_kind(part, str) for part in parts)))


def _first(value: Any, *_: Any) -> Any:
    return value


_NUMPY = {
    "dtype": NumpyType,
    **{f"{core}.multiarray.scalar": _numpy_scalar for core in ("core", "_core")},
    **{f"{core}.multiarray._reconstruct": NumpyArray for core in ("core", "_core")},
    **{f"{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
}
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")

BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _mapping,
    "collections.Counter": _mapping,
    "collections.defaultdict": lambda *_: {},
    "argparse.Namespace": lambda *_: Attributes(),
    "types.SimpleNamespace": lambda *_: Attributes(),
    "builtins.set": _set(set),
    "builtins.frozenset": _set(frozenset),
    "builtins.complex": lambda real, imaginary: complex(real, imaginary),
    **dict.fromkeys(("builtins.bytes", "builtins.bytearray"), _byte_array),
    "builtins.slice": lambda *_: Unbuilt("builtins.slice"),
    "builtins.range": lambda *_: Unbuilt("builtins.range"),
    "_codecs.encode": _encoded,
    **{f"numpy.{name}": build for name, build in _NUMPY.items()},
    **{f"{module}.{name}": _path for module in ("pathlib", "pathlib._local") for name in _PATHS},
}
