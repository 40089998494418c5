"""The log of steps reads what the step computed, and computes nothing on a device itself."""

import jax
import jax.numpy as jnp

from vit_jax_xfer.train.step_log import StepLog


class Heard:
    """Writer, clock and checkpoints at once: what they were told."""

    def __init__(self):
        self.rows, self.reports = [], []

    def write(self, step, values):
        self.rows.append((step, values))

    def tick(self, step):
        pass

    def due(self, step):
        return True

    def report(self, values):
        self.reports.append(values)

    def latest_step(self):
        return None


def test_learning_rates_are_logged_without_a_computation_behind_the_step():
    heard = Heard()
    log = StepLog(heard, heard, heard, every=2, total_steps=4)
    values = {"loss": 1.0, "lr": 0.5, "grad_norm": 2.0}
    metrics = [{name: jnp.float32(x + step) for name, x in values.items()} for step in range(4)]
    with jax.transfer_guard("disallow"):
        for step in range(4):
            log.after_step(step, metrics[step])
            assert len(heard.reports) == step  # those of the step before
        log.flush()
    assert [step for step, _ in heard.rows] == [0, 2, 3]
    assert heard.rows[1][1] == {"loss": 3.0, "lr": 2.5, "grad_norm": 4.0}
    assert heard.reports[3] == {"loss": 4.0, "lr": 3.5}
