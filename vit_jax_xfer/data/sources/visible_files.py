"""The files of a data set in its folders, without what operating systems and editors put there."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_OF_SYSTEMS = ("__MACOSX", "@eaDir")  # what macOS's archives and network drives add


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of a data set: "._x.jpg", ".ipynb_checkpoints"."""
    return name.startswith(".") or name in _OF_SYSTEMS


def visible(found: Iterable[Path], below: Path) -> list[Path]:
    """Those of a folder's files that aren't hidden, nor in a hidden folder of it; sorted."""
    return sorted(x for x in found if not any(map(is_hidden, x.relative_to(below).parts)))


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and in those inside it that aren't hidden; sorted.

    Links are followed, but for one to a folder around itself. One that leads nowhere is a file, of
    which its reader says that it is missing. OSError for a folder that may not be read.
    """
    return sorted(_walk(folder, frozenset()))


def _walk(folder: Path, around: frozenset[str]) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in around:
        return
    with os.scandir(folder) as found:
        entries = [entry for entry in found if not is_hidden(entry.name)]
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir():
            yield from _walk(path, around | {real})
        elif entry.is_file() or (entry.is_symlink() and not path.exists()):
            yield path
