"""The clock of a training: elapsed time across resumes, images a second, data wait, time left."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

from vit_jax_xfer.terminal import overwrites
from vit_jax_xfer.train import console

# Of the time so far, how much passes before the next line that can't be written over.
_SHARE_OF_TIME = 0.02


class Clock:
    """Counts the time of a training run and formats its progress line.

    A step here is a number of completed steps: `tick(1)` after the first one. Rates and the time
    left start at the first tick of this process, so that compilation does not count.

    Args:
      total_steps: completed steps at the end of the run.
      images_per_step: images in a global batch.
      interval: seconds between two progress lines, at least; where they can't be written over,
        ever more, so that a day has hundreds of them and not thousands.
      now: a clock in seconds, monotonic.
    """

    def __init__(
        self,
        total_steps: int,
        images_per_step: int,
        *,
        interval: float = 5.0,
        now: Callable[[], float] = time.perf_counter,
    ):
        self._total_steps = total_steps
        self._images_per_step = images_per_step
        self._interval = interval
        self._now = now
        self.restore({"elapsed": 0.0, "step": 0})

    @property
    def elapsed(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self._elapsed_before + self._now() - self._started

    def state(self) -> dict[str, float | int]:
        """What `restore` needs after a resume: {"elapsed": seconds, "step": completed steps}."""
        return {"elapsed": self.elapsed, "step": self._step}

    def restore(self, state: Mapping[str, float | int]) -> None:
        """Goes on from the `state()` of an earlier process; the time between them is not counted.

        Raises:
          KeyError: `state` lacks "elapsed" or "step".
        """
        self._elapsed_before = float(state["elapsed"])
        self._step = int(state["step"])
        self._started = self._last_line = self._now()
        self._first_tick: tuple[int, float] | None = None
        self._open_window()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside the `with` block as waiting for data."""
        begin = self._now()
        try:
            yield
        finally:
            self._waited += self._now() - begin

    def tick(self, step: int) -> None:
        """Notes that `step` steps are completed."""
        self._step = step
        if self._first_tick is None:
            self._first_tick = (step, self._now())
            self._open_window()

    def due(self, step: int) -> bool:
        """Whether it is time for a progress line: `interval` seconds on, or the last step."""
        now = self._now()
        wait = self._interval
        if not overwrites():
            wait = max(wait, _SHARE_OF_TIME * (now - self._started))
        return step >= self._total_steps or now - self._last_line >= wait

    def line(self, metrics: Mapping[str, float]) -> str:
        """The progress line for the last tick; opens the next window of rate and data wait.

        Args:
          metrics: what to show, in this order.

        Returns:
          "step 1200/5000 24%  loss 1.234  lr 3.0e-04  1234 img/s  data wait 2%  elapsed 1m02s
          ETA 3m10s", on one line; without rate, wait and ETA before the second step.
        """
        percent = 100 * self._step // max(self._total_steps, 1)
        parts = [f"step {self._step}/{self._total_steps} {percent}%"]
        parts += [f"{name} {_format_value(value)}" for name, value in metrics.items()]
        now = self._now()
        steps, seconds = self._step - self._window_step, now - self._window_time
        # The last line may follow another at once: a rate over milliseconds says nothing.
        short = seconds < 0.2 * self._interval
        if self._first_tick is not None and short:
            first_step, first_time = self._first_tick
            steps, seconds = self._step - first_step, now - first_time
        if self._first_tick is not None and steps > 0 and seconds > 0:
            parts.append(f"{steps * self._images_per_step / seconds:.0f} img/s")
            parts += [] if short else [f"data wait {100 * self._waited / seconds:.0f}%"]
        parts.append(f"elapsed {format_duration(self.elapsed)}")
        left = self.seconds_left()
        if left is not None:
            parts.append(f"ETA {format_duration(left)}")
        self._last_line = now
        self._open_window()
        return "  ".join(parts)

    def report(self, metrics: Mapping[str, float]) -> None:
        """Prints `line(metrics)` on the first process; the line of the last step stays."""
        console.progress(self.line(metrics), last=self._step >= self._total_steps)

    def seconds_left(self) -> float | None:
        """Seconds until the last step at the mean rate since the first tick; None if unknown.

        The mean, not the rate of the window, so that the pauses for evaluations and checkpoints
        are expected in the future too.
        """
        if self._first_tick is None or self._step <= self._first_tick[0]:
            return None
        first_step, first_time = self._first_tick
        seconds_a_step = (self._now() - first_time) / (self._step - first_step)
        return seconds_a_step * max(self._total_steps - self._step, 0)

    def _open_window(self) -> None:
        self._window_step, self._window_time, self._waited = self._step, self._now(), 0.0


def format_duration(seconds: float) -> str:
    """Seconds as "7s", "1m02s", "3h05m" or "2d04h": the two largest units, rounded."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = round(seconds / 3600)
    return f"{hours // 24}d{hours % 24:02d}h"


def _format_value(value: float) -> str:
    value = float(value)
    tiny_or_huge = value != 0 and not 1e-2 <= abs(value) < 1e5
    return f"{value:.1e}" if tiny_or_huge else f"{value:.4g}"
