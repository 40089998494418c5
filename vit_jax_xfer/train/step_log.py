"""The metrics of steps, read one step late: to the file, to the progress line, to the alarm."""

import jax

from vit_jax_xfer.train.clock import Clock
from vit_jax_xfer.train.metrics import MetricWriter
from vit_jax_xfer.train.stopping import NonFiniteLoss, check_finite

# So many skipped batches one after the other are no fault of theirs, but of the state's.
SKIPPED_IN_A_ROW = 10


class StepLog:
    """Reads the metrics of a step while the next one runs, so that the device never waits.

    skipped: how many batches earlier processes of the run have left out (see `make_train_step`);
    rows show the number of all so far.
    """

    def __init__(
        self, writer: MetricWriter, clock: Clock, every: int, total_steps: int, skipped: int = 0
    ):
        self._writer, self._clock = writer, clock
        self._every, self._total_steps = every, total_steps
        self.skipped, self._in_a_row = skipped, 0
        self._pending: tuple[int, dict[str, jax.Array]] | None = None

    def after_step(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes a dispatched step's metrics, and deals with those of the step before."""
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Waits for the newest step; NonFiniteLoss where its loss is no number."""
        previous, self._pending = self._pending, None
        if previous is not None:
            self._digest(*previous)

    def _digest(self, step: int, metrics: dict[str, jax.Array]) -> None:
        loss = float(metrics["loss"])
        if "skipped" in metrics:
            metrics = {**metrics, "skipped": self._count(step, bool(metrics["skipped"]))}
        else:
            check_finite(step, {"loss": loss})
        self._clock.tick(step + 1)
        if step % self._every == 0 or step + 1 == self._total_steps:
            values = {name: float(value) for name, value in metrics.items()}
            self._writer.write(step, values)
        if self._clock.due(step + 1):
            shown = [name for name in ("loss", "top1", "lr") if name in metrics]
            if self.skipped:
                shown.append("skipped")
            self._clock.report({name: float(metrics[name]) for name in shown})

    def _count(self, step: int, skipped: bool) -> int:
        """How many batches have been left out."""
        self.skipped += skipped
        self._in_a_row = self._in_a_row + 1 if skipped else 0
        if self._in_a_row == SKIPPED_IN_A_ROW:
            raise NonFiniteLoss(step, f"{SKIPPED_IN_A_ROW} batches in a row gave no finite state")
        return self.skipped
