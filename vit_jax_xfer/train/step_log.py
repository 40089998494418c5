"""The metrics of steps, read one step late: to the file, to the progress line, to the alarm."""

import math

import jax

from vit_jax_xfer.storage.checkpoints import Checkpoints
from vit_jax_xfer.train.clock import Clock
from vit_jax_xfer.train.metrics import MetricWriter
from vit_jax_xfer.train.stopping import check_finite


class StepLog:
    """Reads the metrics of a step while the next one runs, so that the device never waits."""

    def __init__(
        self,
        writer: MetricWriter,
        clock: Clock,
        checkpoints: Checkpoints,
        every: int,
        total_steps: int,
    ):
        self._writer, self._clock, self._checkpoints = writer, clock, checkpoints
        self._every, self._total_steps = every, total_steps
        self._pending: tuple[int, dict[str, jax.Array]] | None = None

    def after_step(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes a dispatched step's metrics, and deals with those of the step before."""
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Waits for the newest step, so that no checkpoint holds the result of a broken one."""
        previous, self._pending = self._pending, None
        if previous is not None:
            self._digest(*previous)

    def _digest(self, step: int, metrics: dict[str, jax.Array]) -> None:
        loss = float(metrics["loss"])
        if not math.isfinite(loss):
            check_finite(step, loss, self._checkpoints.latest_step())
        self._clock.tick(step + 1)
        if step % self._every == 0 or step + 1 == self._total_steps:
            values = {name: float(value) for name, value in metrics.items()}
            self._writer.write(step, values)
        if self._clock.due(step + 1):
            shown = [name for name in ("loss", "top1", "lr") if name in metrics]
            self._clock.report({name: float(metrics[name]) for name in shown})
