"""A process that answers calls one after the other, and whose end costs one answer.

What it holds of a card goes back when it ends: after a failure, a call that took too long, or
`close`; the next call starts another.
"""

import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.asked_process import ask, reason
from benchmarks.step_case import Skipped


class GuardedProcess:
    """Runs functions of modules, which have to pickle. A context manager."""

    def __init__(self) -> None:
        self._process: Any = None
        self._pipe: Connection | None = None

    def __enter__(self) -> "GuardedProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, function: Callable[..., Any], *given: Any, timeout: float) -> Any:
        """The function's result. Skipped, with the reason, where there is none in that time."""
        if self._process is None:
            self._start()
        try:
            return ask(self._pipe, self._process, (function, given), timeout)
        except Skipped:
            self.close()
            raise

    def close(self) -> None:
        """Ends the process, whatever it does."""
        if self._process is None:
            return
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._process = self._pipe = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()


def _serve(pipe: Connection) -> None:
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            function, given = pipe.recv()
            try:
                found = function(*given)
            except Exception as error:  # any failure is a row with its reason
                found = reason(error)
            pipe.send(found)
