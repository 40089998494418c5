"""Text on outputs of any encoding, and on outputs that somebody has closed."""

import codecs
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Literal

# Exit statuses: what a shell reports for a process that SIGTERM, or Ctrl-C, ended, which is 128 and
# the signal's number.
STOPPED, INTERRUPTED = 143, 130
# What stands for a character that an output's encoding lacks; "?" for all others.
_PLAIN = {
    "…": "...",
    "→": "->",
    "×": "x",
    "·": "*",
    "−": "-",
    "–": "-",
    "—": "-",
    "²": "^2",
    "≥": ">=",
    "≤": "<=",
    "±": "+-",
    "’": "'",
    "“": '"',
    "”": '"',
}


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end


codecs.register_error("plainer", _plainer)


_beginning = ""  # of each line, see `lines_begin_with`


@contextlib.contextmanager
def lines_begin_with(text: str) -> Iterator[None]:
    """Within it every line begins so, and none is written over: others print there as well."""
    global _beginning
    before, _beginning = _beginning, text
    try:
        yield
    finally:
        _beginning = before


def show(text: str, *, end: str = "\n", name: Literal["stdout", "stderr"] = "stdout") -> None:
    """Prints a text whatever the output can take; where it is closed, does without from then on.

    So neither an encoding nor a dead reader (`| head`, a terminal that went away) ends a program.
    """
    stream = getattr(sys, name)
    if stream is None:
        return
    if _beginning:
        text = "\n".join(f"{_beginning}{line}" for line in text.split("\n"))
    try:
        try:
            print(text, end=end, file=stream, flush=True)
        except UnicodeEncodeError:
            plain = text.encode(stream.encoding, "plainer").decode(stream.encoding)
            print(plain, end=end, file=stream, flush=True)
    except (OSError, ValueError) as error:  # ValueError: it is closed on our side
        _do_without(name)
        if name == "stdout":
            show(f"stdout is gone ({error}): going on without it", name="stderr")


def overwrites(name: Literal["stdout", "stderr"] = "stdout") -> bool:
    """Whether a line can be written over, by "\\r": on a terminal, and below a notebook's cell."""
    stream = getattr(sys, name)
    if stream is None or stream.closed or _beginning:
        return False
    return stream.isatty() or any("ipykernel" in base.__module__ for base in type(stream).__mro__)


def write_over(
    line: str, before: int, *, end: str = "", name: Literal["stdout", "stderr"] = "stdout"
) -> None:
    """Shows a line in place of the one that the cursor stands behind, of `before` characters."""
    # Spaces and no escape sequence, which neither every terminal nor a notebook knows.
    show(f"\r{line.ljust(before)}", end=end, name=name)


def occupy() -> None:
    """Opens those of the three standard files that a program was started without (`>&-`).

    Else the next file that it opens takes the number of one of them, and gets what is printed.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def settle() -> None:
    """Empties both outputs, so that a closed one can't change the exit status of the program."""
    for name in ("stdout", "stderr"):
        try:
            if stream := getattr(sys, name):
                stream.flush()
        except (OSError, ValueError):
            _do_without(name)


def _do_without(name: str) -> None:
    """Sends an output nowhere, with what is in its buffer, which Python would write at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with contextlib.suppress(OSError, ValueError):
        os.dup2(nowhere, getattr(sys, name).fileno())
        os.close(nowhere)
        return
    setattr(sys, name, os.fdopen(nowhere, "w"))
