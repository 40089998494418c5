"""Commands ask the C library for huge pages, which a process can do only before it begins.

XLA takes a step's scratch memory anew in every step, and on a CPU it is the kernel that has to find
and clear it, in pages of 4 kB each. With huge pages a small step takes 12 to 30 % less of a
processor's time (benchmarks/NOTES.md, docs/results.md).
"""

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence

_VARIABLE, _TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_KERNEL = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_DOOR, _PACKAGE = "vit-jax-xfer", "vit_jax_xfer"


def begin_with_huge_pages() -> None:
    """Begins this program again, in the same process, where that gives it huge pages.

    Only where it is one of our commands, on Linux with glibc, whose kernel gives them to who asks.
    GLIBC_TUNABLES=glibc.malloc.hugetlb=0 does without.
    """
    tunables = tunables_with_huge_pages(os.environ, _kernels_choice())
    if tunables is None or not is_our_command(sys.orig_argv) or not sys.executable:
        return
    environment = {**os.environ, _VARIABLE: tunables}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def tunables_with_huge_pages(environment: Mapping[str, str], kernel: str) -> str | None:
    """What GLIBC_TUNABLES must be; None where huge pages are there, refused or not to be had.

    kernel: its choice as it tells it, as "always [madvise] never"; "" = it tells none.
    """
    given = environment.get(_VARIABLE, "")
    if "[madvise]" not in kernel or _TUNABLE in given:
        return None
    return ":".join(filter(None, (given, f"{_TUNABLE}=1")))


def is_our_command(argv: Sequence[str]) -> bool:
    """Whether a process's whole command line runs one of our commands, and no tool around it."""
    words = argv[1:]
    while words and words[0].startswith("-") and words[0] != "-m":
        # Options of Python's; these take the next word where nothing stands behind their letter.
        words = words[2:] if words[0] in ("-W", "-X") else words[1:]
    if len(words) > 1 and words[0] == "-m":
        return words[1].partition(".")[0] == _PACKAGE
    return bool(words) and pathlib.Path(words[0]).name == _DOOR


def _kernels_choice() -> str:
    try:
        if not (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc"):
            return ""
        return _KERNEL.read_text()
    except (OSError, ValueError, AttributeError):  # another system, or another C library
        return ""
