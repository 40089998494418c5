"""What a run prints: whole lines and one progress line, by the first process only."""

import shutil
import sys

import jax

_CLEAR_TO_END_OF_LINE = "\x1b[K"
_open_line = False  # whether the terminal's cursor stands behind an unfinished progress line


def say(text: str) -> None:
    """Prints `text` on its own line, on the first process only.

    Asks JAX for the process index and so starts its backend: not before
    `jax.distributed.initialize`.
    """
    global _open_line
    if jax.process_index() != 0:
        return
    print(("\n" if _open_line else "") + text, flush=True)
    _open_line = False


def say_anywhere(text: str) -> None:
    """As `say`, of what one process alone knows: the others say it on stderr, with their number."""
    if jax.process_index() == 0:
        say(text)
    else:
        print(f"process {jax.process_index()}: {text}", file=sys.stderr, flush=True)


def progress(text: str, *, last: bool = False) -> None:
    """Prints a progress line that the next one overwrites, on the first process only.

    Where stdout is no terminal (a log file, a notebook) each call is a line of its own.

    Args:
      text: one line; cut to the terminal's width, since a wrapped line cannot be overwritten.
      last: the line stays.
    """
    global _open_line
    if not sys.stdout.isatty():
        say(text)
        return
    if jax.process_index() != 0:
        return
    text = text[: shutil.get_terminal_size().columns - 1]
    print(f"\r{text}{_CLEAR_TO_END_OF_LINE}", end="\n" if last else "", flush=True)
    _open_line = not last
