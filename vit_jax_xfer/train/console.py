"""What a run prints: whole lines and one progress line, by the first process only."""

import shutil

import jax

from vit_jax_xfer import terminal

_open_line = 0  # characters of an unfinished progress line behind which the cursor stands


def say(text: str) -> None:
    """Prints `text` on its own line, on the first process only.

    Asks JAX for the process index and so starts its backend: not before
    `jax.distributed.initialize`.
    """
    global _open_line
    if jax.process_index() != 0:
        return
    terminal.show(("\n" if _open_line else "") + text)
    _open_line = 0


def say_anywhere(text: str) -> None:
    """As `say`, of what one process alone knows: the others say it on stderr, with their number."""
    if jax.process_index() == 0:
        say(text)
    else:
        terminal.show(f"process {jax.process_index()}: {text}", name="stderr")


def progress(text: str, *, last: bool = False) -> None:
    """Prints a progress line that the next one overwrites, on the first process only.

    Where stdout is neither a terminal nor a notebook's each call is a line of its own.

    Args:
      text: one line of parts with two spaces between. Where the terminal is narrower, since a
        wrapped line cannot be overwritten, parts are left out, the last but one first.
      last: the line stays.
    """
    global _open_line
    if not terminal.overwrites():
        say(text)
        return
    if jax.process_index() != 0:
        return
    text = _fitting(text, shutil.get_terminal_size().columns - 1)
    terminal.write_over(text, _open_line, end="\n" if last else "")
    _open_line = 0 if last else len(text)


def _fitting(text: str, width: int) -> str:
    parts = text.split("  ")
    while len("  ".join(parts)) > width and len(parts) > 2:
        del parts[-2]
    return "  ".join(parts)[:width]
