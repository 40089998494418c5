"""A line that says how far a long job is, and is silent about a short one."""

import shutil
import time
from typing import Self

from vit_jax_xfer.terminal import overwrites, show, write_over

_SHORT = 4.0  # seconds; a shorter job shows no progress
_SHORTEST_BAR, _LONGEST_BAR = 10, 40  # characters
_LOG_EVERY = 30.0  # seconds between lines where they can't be overwritten


class Progress:
    """Counts what is done of `total` on stderr; silent while little time is left.

    The first report is not counted into the speed, because it holds the compilation.
    """

    def __init__(self, total: int, items: str = "images") -> None:
        self.total = total
        self._items = items
        self._first: tuple[int, float] | None = None
        self._shown = -_LOG_EVERY
        self._open = 0  # characters of the line behind which the cursor stands

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        # The next line then stands alone.
        self._write("")

    def report(self, done: int) -> None:
        """Says how many are done."""
        now = time.monotonic()
        if self._first is None:
            self._first = done, now
            return
        counted, seconds = done - self._first[0], now - self._first[1]
        text = progress_text(counted, seconds, done, self.total, self._items)
        if overwrites("stderr"):
            columns = shutil.get_terminal_size().columns
            self._write(with_bar(text, done / self.total, columns) if text else "")
        elif text and now - self._shown >= _LOG_EVERY:
            show(text, name="stderr")
            self._shown = now

    def _write(self, line: str) -> None:
        if line or self._open:
            write_over(line, self._open, end="" if line else "\r", name="stderr")
            self._open = len(line)


def with_bar(text: str, share: float, columns: int) -> str:
    """The line with a bar behind it that fills a terminal's width; cut where that is too narrow."""
    room = columns - 1 - len(text) - 3  # the last column would begin a new line
    if room < _SHORTEST_BAR:
        return text[: max(columns - 1, 0)]
    length = min(room, _LONGEST_BAR)
    full = round(length * min(max(share, 0.0), 1.0))
    return f"{text} [{'#' * full}{'.' * (length - full)}]"


def progress_text(
    counted: int, seconds: float, done: int, total: int, items: str = "images"
) -> str | None:
    """The line, from `counted` items in `seconds`; None where only a few seconds are left."""
    if not counted or seconds <= 0:
        return None
    left = seconds / counted * (total - done)
    if left < _SHORT:
        return None
    minutes, rest = divmod(round(left), 60)
    return f"{done} of {total} {items}, {counted / seconds:.1f} a second, {minutes}:{rest:02} left"
