"""The log of steps reads what the step computed, and computes nothing on a device itself."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax_xfer.train.step_log import SKIPPED_IN_A_ROW, StepLog
from vit_jax_xfer.train.stopping import NonFiniteLoss


class Heard:
    """Writer and clock at once: what they were told."""

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


def test_learning_rates_are_logged_without_a_computation_behind_the_step():
    heard = Heard()
    log = StepLog(heard, heard, every=2, total_steps=4)
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


def skipping(log, flags):
    for step, flag in enumerate(flags):
        loss = jnp.nan if flag else 1.0
        log.after_step(step, {"loss": jnp.float32(loss), "skipped": jnp.int32(flag)})
    log.flush()


def test_skipped_batches_are_counted_on_from_an_earlier_process():
    heard = Heard()
    log = StepLog(heard, heard, every=1, total_steps=4, skipped=5)
    skipping(log, [0, 1, 0, 1])
    assert [values["skipped"] for _, values in heard.rows] == [5, 6, 6, 7] and log.skipped == 7


def test_many_skipped_batches_in_a_row_end_the_run():
    heard = Heard()
    log = StepLog(heard, heard, every=1, total_steps=100)
    skipping(log, [1] * (SKIPPED_IN_A_ROW - 1) + [0] + [1] * (SKIPPED_IN_A_ROW - 1))
    with pytest.raises(NonFiniteLoss, match="10 batches in a row gave no finite state at step 0"):
        skipping(log, [1])


def test_without_skipping_the_first_loss_that_is_no_number_ends_it_whatever_is_logged():
    heard = Heard()
    log = StepLog(heard, heard, every=1000, total_steps=1000)
    log.after_step(3, {"loss": jnp.float32(jnp.nan)})
    with pytest.raises(NonFiniteLoss, match="loss is nan at step 3"):
        log.flush()
