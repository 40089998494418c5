"""A trace of some steps of a run, which TensorBoard and Perfetto open."""

import pathlib
import re
from typing import Any, NamedTuple, Self

import jax

from vit_jax_xfer.train.console import say

# Steps of this process before the first one of a trace that names none: they fill caches.
WARM_STEPS = 2


class ProfiledSteps(NamedTuple):
    """Which steps to trace: `count` of them from `first` on; None = soon after the start."""

    count: int
    first: int | None = None

    def within(self, start: int, total: int) -> range:
        """The steps, of a process whose own are start … total - 1; empty where it has none."""
        if self.first is None:
            first = max(start, min(start + WARM_STEPS, total - self.count))
        else:
            first = self.first
        return range(max(first, start), min(first + self.count, total))


def profiled_steps(text: str) -> ProfiledSteps:
    """What --profile says: "5", so many steps, or "100:105", the steps 100 to 104.

    ValueError for anything else.
    """
    found = re.fullmatch(r"(?:(\d+):)?(\d+)", text)
    if found:
        first = None if found[1] is None else int(found[1])
        count = int(found[2]) - (first or 0)
        if count > 0:
            return ProfiledSteps(count, first)
    raise ValueError(
        f"--profile: {text!r} names no steps; write --profile=5, or --profile=100:105 for the "
        "steps 100 to 104"
    )


class StepProfile:
    """Context of a run's steps, some of which it traces with JAX's profiler.

    The trace lies in `folder/profile`, of several processes in `folder/profile/process_N`: there
    `plugins/profile/TIME/` holds `*.xplane.pb` for TensorBoard and `perfetto_trace.json.gz`. What
    ends the steps early ends the trace, which is written all the same.

    Args:
      wanted: which steps; None: nothing is traced.
      folder: of the run.
      start, total: this process's steps are start … total - 1.
    """

    def __init__(self, wanted: ProfiledSteps | None, folder: pathlib.Path, start: int, total: int):
        self._steps = range(0) if wanted is None else wanted.within(start, total)
        self._missed = wanted is not None and not self._steps
        own = f"process_{jax.process_index()}" if jax.process_count() > 1 else ""
        self._place = folder / "profile" / own
        self._first: int | None = None  # of the trace that is being made
        self._next = start

    def __enter__(self) -> Self:
        if self._missed:
            say("--profile: none of these steps is left, so nothing is traced")
        return self

    def begin(self, step: int, state: Any) -> None:
        """Begins the trace right before its first step; waits for `state`, which that step takes.

        So just the work of its own steps is in it.
        """
        if self._first is None and step in self._steps:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._place, create_perfetto_trace=True)
            self._first = step

    def end_before(self, step: int, state: Any) -> None:
        """Ends the trace before the first step that isn't in it; waits for what the last gave."""
        self._next = step
        if self._first is not None and step not in self._steps:
            jax.block_until_ready(state)
            self._write()

    def __exit__(self, *exception: object) -> None:
        if self._first is not None:
            self._write()

    def _write(self) -> None:
        first, self._first = self._first, None
        self._steps = range(0)
        jax.profiler.stop_trace()
        place = max(
            (self._place / "plugins" / "profile").iterdir(), key=lambda x: x.stat().st_mtime
        )
        say(
            f"profile of the steps {first} to {max(self._next - 1, first)}: {place}; open it with "
            f"tensorboard --logdir={self._place}, or perfetto_trace.json.gz in ui.perfetto.dev"
        )
