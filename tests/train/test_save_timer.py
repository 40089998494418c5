"""A checkpoint by the clock."""

import pytest

from vit_jax_xfer.train.save_timer import SaveTimer


def test_due_so_many_minutes_after_the_last():
    now = [1000.0]
    timer = SaveTimer(10.0, lambda: now[0])
    now[0] += 599
    assert not timer.due()
    now[0] += 1
    assert timer.due() and timer.due()
    timer.restart()
    assert not timer.due()


def test_zero_is_never_due_and_less_is_refused():
    now = [0.0]
    timer = SaveTimer(0, lambda: now[0])
    now[0] = 1e9
    assert not timer.due()
    with pytest.raises(ValueError, match="checkpoint.minutes: expected 0 or more, got -1"):
        SaveTimer(-1)
