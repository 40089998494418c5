"""A file's arrays, read one at a time when they are asked for, or one line that says why not."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

# void16 is how numpy writes bfloat16 into an .npz file.
_QUANTISED = re.compile(r"f(?:loat)?[48]_.*|q?u?int[1-7]|qu?int.*")
_NUMBERS = re.compile(r"bool|u?int\d+|b?float\d+|void16")


class Stored(NamedTuple):
    """An array that is still in its file. dtype: its name there; read: the array, when called."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], Any]


class Unbuilt:
    """A class, a function or an object in a file that isn't built. name: module and name."""

    def __init__(self, name: str) -> None:
        self.name = name


class RefusedFile(ValueError):
    """What is wrong with a file, said whole: nothing in it failed, it isn't read."""


class LazyState(Mapping[str, np.ndarray]):
    """Immutable {name: numpy array}; each access reads the array anew, floats as float32.

    arrays: {name: Stored, or a numpy, jax or torch array}; `where` comes before names in errors.
    Integers and booleans keep their types, and what is returned can't be written to.
    ValueError naming the first value that is no array of numbers, or, on access, can't be read.
    """

    def __init__(self, arrays: Mapping[str, Any], where: str = "source") -> None:
        self.where = where
        self.stored: dict[str, Stored] = {
            name: _stored(array, f"{where}: {name}") for name, array in arrays.items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        stored = self.stored[name]
        with one_line_errors(f"{self.where}: {name}"):
            array = as_numpy(stored.read())
            if array.shape != stored.shape:
                raise ValueError(f"shape {array.shape}, announced as {stored.shape}")
        return array

    def __contains__(self, name: object) -> bool:
        return name in self.stored  # Mapping's own would read the array

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)

    def __repr__(self) -> str:
        return f"LazyState({self.where}, {len(self)} names)"

    def shape(self, name: str) -> tuple[int, ...]:
        """The array's shape, without reading it. KeyError for a name that is not there."""
        return self.stored[name].shape

    def renamed(self, names: Mapping[str, str]) -> "LazyState":
        """The arrays under other names, {new: old}; what is not mentioned is left out."""
        return LazyState({new: self.stored[old] for new, old in names.items()}, self.where)

    def mapped(self, rename: Callable[[str], str | None]) -> "LazyState":
        """The arrays with every name changed by `rename`, which says None to leave one out.

        ValueError when two names become one.
        """
        names: dict[str, str] = {}
        for old in self.stored:
            new = rename(old)
            if new in names:
                raise ValueError(f"{self.where}: {names[new]} and {old} both become {new}")
            if new is not None:
                names[new] = old
        return self.renamed(names)

    def replaced(self, arrays: Mapping[str, Any]) -> "LazyState":
        """The same with some arrays instead of those in the file, or beside them."""
        return LazyState({**self.stored, **arrays}, self.where)


def is_array(value: Any) -> bool:
    """Whether a value is an array: of numpy, jax or torch, or one still in its file."""
    return hasattr(value, "shape") and hasattr(value, "dtype")


def as_numpy(value: Any) -> np.ndarray:
    """A numpy, jax or torch array as a read-only numpy array; every floating type as float32."""
    if hasattr(value, "detach"):  # torch, whose bfloat16 numpy does not take
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    array = np.asarray(value)
    if array.dtype.name == "void16":
        array = array.view(ml_dtypes.bfloat16)
    if array.dtype.kind not in "iub":
        array = array.astype(np.float32, copy=False)
    array = array.view()  # read-only, but not for the caller whose array this may be
    array.flags.writeable = False
    return array


def _stored(value: Any, where: str) -> Stored:
    if not is_array(value):
        kind = value.name[:200] if isinstance(value, Unbuilt) else type(value).__name__
        raise ValueError(f"{where} is a {kind}, expected an array")
    # numpy's name is the same in every byte order; torch's types have none.
    name = getattr(value.dtype, "name", str(value.dtype)).removeprefix("torch.").lower()
    if _QUANTISED.fullmatch(name):
        raise ValueError(f"{where} is quantised ({name}); dequantise it and save floats")
    if not _NUMBERS.fullmatch(name):
        raise ValueError(f"{where} is of type {value.dtype}, expected numbers")
    if isinstance(value, Stored):
        return value
    return Stored(tuple(value.shape), name, lambda: value)


@contextlib.contextmanager
def one_line_errors(where: str) -> Iterator[None]:
    """Turns whatever a reader raises into a ValueError of one line that begins with `where`."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except RefusedFile as error:
        raise ValueError(f"{where}: {error}") from error
    # Readers raise nearly anything on damaged files: struct.error, IndexError, zlib.error, …
    except Exception as error:
        raise ValueError(f"{where}: cannot be read ({_one_line(error)})") from error


def _one_line(error: Exception) -> str:
    """The first line of what a reader says, shortened."""
    lines = str(error).strip().splitlines()
    return lines[0].strip()[:200] if lines else type(error).__name__
