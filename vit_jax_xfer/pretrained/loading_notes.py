"""What loading chose, took or left out where a file leaves a choice: a warning of one line each."""

import contextlib
import warnings
from collections.abc import Iterator

from vit_jax_xfer.terminal import show


class LoadingNote(UserWarning):
    """One line on what a file became, for who may have wanted it otherwise."""


def note(line: str) -> None:
    """Says it, once for each text and place that calls; Python's warning filters apply."""
    warnings.warn(line, LoadingNote, stacklevel=2)


@contextlib.contextmanager
def notes_on_stderr() -> Iterator[None]:
    """For commands: notes within are plain lines on stderr, "note: …"; other warnings as ever."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", LoadingNote)
        others = warnings.showwarning

        def shown(message, category, *where, **more):
            if issubclass(category, LoadingNote):
                show(f"note: {message}", name="stderr")
            else:
                others(message, category, *where, **more)

        warnings.showwarning = shown
        yield
