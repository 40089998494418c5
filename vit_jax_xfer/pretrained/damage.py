"""What is wrong with a file, in one line that names it and says what to do."""

import contextlib
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")


@contextlib.contextmanager
def one_line_errors(where: str) -> Iterator[None]:
    """Turns whatever a reader raises into a ValueError of one line that begins with `where`."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        raise ValueError(f"{where}: {_of_pickle(error)}") from error
    # Readers raise nearly anything on damaged files: struct.error, IndexError, zlib.error, …
    except Exception as error:
        raise ValueError(f"{where}: cannot be read ({_one_line(error)})") from error


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


def _of_pickle(error: Exception) -> str:
    """What the restricted unpickler met: a class or function that it never calls, or rubbish."""
    found = re.search(r"Unsupported global: GLOBAL ([\w.]+)", str(error))
    if found:
        return (
            f"holds pickled objects other than arrays ({found[1]}), which are never unpickled; "
            "save the state dict alone"
        )
    return (
        "truncated, or holds pickled objects other than arrays, which are never unpickled "
        f"({_one_line(error)})"
    )


def _one_line(error: Exception) -> str:
    """The first line of what a reader says, shortened: the rest is advice on unsafe loading."""
    lines = str(error).strip().splitlines()
    # torch begins with that advice and ends with the reason.
    reason = re.search(r"WeightsUnpickler error: (.+)", str(error))
    line = reason[1] if reason else lines[0] if lines else type(error).__name__
    return line.strip()[:200] or type(error).__name__
