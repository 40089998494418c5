"""Which of Orbax's messages reach a terminal: what it raises is said once, by who catches it."""

import logging
import re
import sys
from collections.abc import Callable
from typing import Any

# What an operating system says of a write that fails.
_CAUSE = re.compile(
    "No space left on device|Disk quota exceeded|File too large|Read-only file system|"
    "Permission denied|Input/output error|Stale file handle"
)


def quiet() -> None:
    """Filters Orbax's messages, in this whole process; calling it again changes nothing."""
    logging.getLogger("absl").addFilter(_keep)
    sys.unraisablehook = _show_unraisable


def _keep(record: logging.LogRecord) -> bool:
    # Under `absl.app.run` Orbax logs some fifty INFO lines a save, and each failure as several
    # ERROR pages although the same failure reaches the caller as an exception.
    levels = (logging.DEBUG, logging.INFO, logging.ERROR)
    return record.levelno not in levels or "/orbax/" not in record.pathname


def _show_unraisable(unraisable: Any, others: Callable[[Any], Any] = sys.unraisablehook) -> None:
    # Where one array can't be read or written, Orbax closes its event loop and hands the error on;
    # for each other array under way TensorStore then fails to call back, with a page of traceback.
    if str(unraisable.exc_value) != "Event loop is closed":
        others(unraisable)


def one_line(error: Exception) -> str:
    """The type of an error of Orbax or tensorstore, and what it says, in a line."""
    text = str(error).strip().split("\n")[0]
    if len(text) > 300:  # tensorstore has the cause at the end, or amid a page of its spec
        cause = _CAUSE.search(text)
        text = f"{text[:80]} ... {cause[0] if cause else text[-200:]}"
    return f"{type(error).__name__}: {text}"
