"""Files that appear when they are complete: written beside their place, then moved there."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str], durable: bool = False) -> Iterator[Path]:
    """Gives a path to write to, in the same folder; at the end of the block it becomes `path`.

    After an error nothing of it stays, and what lay at `path` before still does. durable: it is on
    the disk before it is moved; without, a power cut can leave an empty file in the old one's
    place.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with naming_file(path):
            yield partial
            if durable:
                with partial.open("rb") as file:
                    os.fsync(file.fileno())
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def naming_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts a file's name to the system's errors that lack one, as those of a full disk do."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def write_whole(path: str | os.PathLike[str], text: str, durable: bool = False) -> None:
    """Writes a file of text in UTF-8; see `written_whole`. Names of files that are none stay so."""
    with written_whole(path, durable) as partial:
        partial.write_text(text, encoding="utf-8", errors="surrogateescape")


def write_npz(
    path: str | os.PathLike[str], arrays: Mapping[str, Any], compressed: bool = False
) -> None:
    """Writes {name: array} as an .npz file; see `written_whole`."""
    import numpy as np

    with written_whole(path) as partial, partial.open("wb") as file:
        (np.savez_compressed if compressed else np.savez)(file, **arrays)
