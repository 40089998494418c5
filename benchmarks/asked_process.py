"""Questions to a process of a benchmark, whose failure is a reason and no error."""

from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from benchmarks.step_case import Skipped


def ask(
    pipe: Connection, process: BaseProcess, question: Any = None, timeout: float | None = None
) -> Any:
    """The process's answer, or without a question what it says next.

    Skipped, with the reason, where it ended, answers with one, or says nothing for so many seconds.
    """
    try:
        if question is not None:
            pipe.send(question)
        if timeout is not None and not pipe.poll(max(timeout, 0.0)):
            raise Skipped(f"was not ready in {max(timeout, 0):.0f} s, all that was left")
        found = pipe.recv()
    except (EOFError, ConnectionError):
        process.join(timeout=10)
        raise Skipped(f"its process ended with code {process.exitcode}") from None
    if isinstance(found, Skipped):
        raise found
    return found


def reason(error: Exception) -> Skipped:
    """Any failure, in one line."""
    lines = str(error).strip().splitlines()
    return Skipped((lines[0] if lines else type(error).__name__)[:200])
