"""When a checkpoint is due by the clock, whatever the steps say."""

import time
from collections.abc import Callable


class SaveTimer:
    """Counts the time since the last checkpoint; a clock that is set back does not stop it.

    Args:
      minutes: how far apart checkpoints lie at most; 0 = none is ever due.
      now: a clock in seconds, monotonic.
    """

    def __init__(self, minutes: float, now: Callable[[], float] = time.monotonic):
        if minutes < 0:
            raise ValueError(f"checkpoint.minutes: expected 0 or more, got {minutes}")
        self._seconds, self._now = 60 * minutes, now
        self.restart()

    def restart(self) -> None:
        """Notes that a checkpoint was made, or that there is nothing yet to lose."""
        self._last = self._now()

    @property
    def tolerance(self) -> float:
        """Seconds by which a checkpoint may come late: a twentieth of how far apart they lie."""
        return self._seconds / 20

    def due(self) -> bool:
        """Whether the last one is too long ago, on this process."""
        return self._seconds > 0 and self._now() - self._last >= self._seconds
