"""Places that a command's flags give it to write to, checked before its work begins."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vit_jax_xfer.local_paths import local_path


def out_folder(path: str | os.PathLike[str], flag: str) -> Path:
    """A folder to write into, which may still have to be made.

    ValueError naming the flag where a file is there, or nothing can be written there.
    """
    folder = local_path(path, flag)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{flag}: {folder} is a file; give a folder")
    _require_writable(folder, flag)
    return folder


def out_file(path: str | os.PathLike[str], flag: str) -> Path:
    """A file to write, in a folder that is there; the file may be too.

    ValueError naming the flag for a folder, and where nothing can be written.
    """
    file = local_path(path, flag)
    if file.is_dir():
        raise ValueError(f"{flag}: {file} is a folder; give a file")
    folder = file.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"{flag}: there is no folder {folder}")
    _require_writable(folder, flag)
    return file


def require_different(files: Mapping[str, Path | None]) -> None:
    """ValueError where two flags name one file. files: by flag, None = not given."""
    seen: dict[Path, str] = {}
    for flag, file in files.items():
        if file is None:
            continue
        other = seen.setdefault(file.resolve(), flag)
        if other != flag:
            raise ValueError(f"{flag}: {file} is {other}'s; give another file")


def _require_writable(folder: Path, flag: str) -> None:
    """ValueError where no file can be made in a folder, or in the one in which it would be made.

    By trying: what permissions say is not all of it, as on disks that are mounted to be read.
    """
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ValueError(
            f"{flag}: nothing can be written in {there}: {error.strerror or error}"
        ) from None
