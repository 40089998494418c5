"""Lists and annotations of a data set, read with bounds: how long they are, and where they point.

They come from elsewhere: a list may be a device without an end, and a name in it may be a path to
another folder.
"""

import json
import pathlib
from typing import Any

_LARGEST = 64 * 2**20  # bytes; ImageNet's list of 1.3 million names has 50


def read_bytes(path: pathlib.Path, largest: int = _LARGEST) -> bytes:
    """A regular file's bytes. OSError where there is none, ValueError for more than `largest`."""
    size = path.stat().st_size
    if not path.is_file() and not path.is_dir():  # a folder can't be opened, which says so
        raise ValueError("it is a device or a pipe")
    if size > largest:
        raise ValueError(f"it has {size:,} bytes, expected {largest:,} at most")
    with path.open("rb") as file:
        return file.read(largest)  # a file may grow meanwhile


def read_text(path: pathlib.Path, largest: int = _LARGEST) -> str:
    """A regular file's UTF-8 text, without a byte order mark. Raises as `read_bytes`, ValueError
    where it is no UTF-8."""
    try:
        return read_bytes(path, largest).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is no UTF-8 text") from None


def read_json(path: pathlib.Path, largest: int = _LARGEST) -> Any:
    """What a JSON file holds. Raises as `read_text`, and ValueError where it is no JSON."""
    try:
        return json.loads(read_text(path, largest))
    except RecursionError:
        raise ValueError("its lists and objects lie too deep inside each other") from None


def inside_folder(folder: pathlib.Path, name: str, said_by: pathlib.Path) -> pathlib.Path:
    """folder / name. ValueError, naming the file that says so, for a name that leads out of it."""
    path = pathlib.PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise ValueError(f"{said_by}: {name!r} is no name of a file inside {folder}")
    return folder / path
