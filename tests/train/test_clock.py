"""The clock, with a time source that the test moves; and the console."""

import sys

import jax
import pytest

from vit_jax_xfer.train import clock as clock_module
from vit_jax_xfer.train import console
from vit_jax_xfer.train.clock import Clock, format_duration


class FakeTime:
    """Seconds since a start far from zero, as `time.perf_counter` has it."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


def run(clock: Clock, time: FakeTime, first: int, last: int, wait: float, compute: float) -> None:
    for step in range(first, last + 1):
        with clock.waiting():
            time.seconds += wait
        time.seconds += compute
        clock.tick(step)


def test_line_excludes_compilation_from_rate_and_time_left(time):
    clock = Clock(total_steps=101, images_per_step=10, now=time)
    run(clock, time, 1, 1, wait=3.0, compute=60.0)  # the first step compiles
    assert clock.seconds_left() is None
    assert clock.line({}) == "step 1/101 0%  elapsed 1m03s"
    run(clock, time, 2, 21, wait=0.1, compute=0.4)
    assert clock.line({"loss": 1.2341, "top1": 0.51, "lr": 3e-4}) == (
        "step 21/101 20%  loss 1.234  top1 0.51  lr 3.0e-04  20 img/s  data wait 20%"
        "  elapsed 1m13s  ETA 40s"
    )


def test_rate_is_of_the_window_and_time_left_of_all(time):
    clock = Clock(total_steps=40, images_per_step=1, now=time)
    run(clock, time, 1, 11, wait=0.0, compute=1.0)
    clock.line({})
    run(clock, time, 12, 21, wait=0.25, compute=0.25)
    assert "  2 img/s  data wait 50%  " in clock.line({})
    assert clock.seconds_left() == pytest.approx(19 * 15 / 20)


def test_due_every_interval_and_at_the_last_step(time):
    clock = Clock(total_steps=100, images_per_step=1, interval=5.0, now=time)
    printed = []
    for step in range(1, 101):
        time.seconds += 1.0
        clock.tick(step)
        if clock.due(step):
            clock.line({})
            printed.append(step)
    assert printed == list(range(5, 101, 5))
    time.seconds += 1.0
    assert not clock.due(99)
    assert clock.due(100)


def test_elapsed_goes_on_after_a_resume(time):
    clock = Clock(total_steps=10, images_per_step=1, now=time)
    run(clock, time, 1, 4, wait=0.0, compute=2.0)
    state = clock.state()
    assert state == {"elapsed": 8.0, "step": 4}
    time.seconds += 500.0  # waiting for a new machine
    clock = Clock(total_steps=10, images_per_step=1, now=time)
    time.seconds += 7.0  # starting
    clock.restore(state)
    assert clock.elapsed == 8.0
    run(clock, time, 5, 5, wait=0.0, compute=30.0)
    assert clock.seconds_left() is None  # compiled again
    run(clock, time, 6, 6, wait=0.0, compute=2.0)
    assert clock.elapsed == 40.0
    assert clock.seconds_left() == 8.0


def test_time_before_the_first_batch_counts_as_wait_only_in_its_window(time):
    clock = Clock(total_steps=10, images_per_step=1, now=time)
    run(clock, time, 1, 1, wait=100.0, compute=1.0)
    run(clock, time, 2, 3, wait=0.0, compute=1.0)
    assert "data wait 0%" in clock.line({})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (62, "1m02s"), (3599.7, "1h00m")]
    + [(11100, "3h05m"), (86399, "1d00h"), (187200, "2d04h")],
)
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text


def test_console_overwrites_on_a_terminal_only(capsys, monkeypatch):
    console.progress("step 1")
    console.progress("step 2", last=True)
    assert capsys.readouterr().out == "step 1\nstep 2\n"

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    console.progress("step 1" + 30 * "x")
    console.say("evaluating")
    console.progress("step 2345")
    console.progress("step 2", last=True)
    console.say("done")
    assert capsys.readouterr().out == (
        f"\rstep 1{13 * 'x'}\nevaluating\n\rstep 2345\rstep 2   \ndone\n"
    )


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_a_progress_line_fits_and_keeps_the_time_left(columns, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    parts = ["step 123456/250000 49%", "loss 1.234", "lr 3.0e-04", "1234 img/s"]
    console.progress("  ".join([*parts, "elapsed 1m02s", "ETA 3m10s"]), last=True)
    line = capsys.readouterr().out.strip()
    assert len(line) < columns and line.startswith("step 123456/250000 49%  loss 1.234  ")
    assert line.endswith("ETA 3m10s") and ("elapsed" in line) == (columns > 90)


def test_few_lines_on_a_long_run_where_they_cannot_be_written_over(time, monkeypatch):
    def lines():
        clock = Clock(total_steps=10**9, images_per_step=1, interval=5.0, now=time)
        count = 0
        for step in range(1, 24 * 3600):
            time.seconds += 1.0
            if clock.due(step):
                clock.line({})
                count += 1
        return count

    assert 100 < lines() < 500
    monkeypatch.setattr(clock_module, "overwrites", lambda: True)
    assert lines() == 24 * 3600 // 5 - 1


def test_only_the_first_process_speaks(capsys, monkeypatch, time):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    console.say("hello")
    Clock(total_steps=1, images_per_step=1, now=time).report({"loss": 1.0})
    assert capsys.readouterr().out == ""


def test_a_last_line_that_follows_at_once_shows_the_rate_of_the_run():
    now = [0.0]
    clock = Clock(10, 8, interval=5.0, now=lambda: now[0])
    for step in range(1, 10):
        now[0] += 1.0
        clock.tick(step)
    assert "8 img/s" in clock.line({})
    now[0] += 0.001
    clock.tick(10)
    last = clock.line({})
    assert "9 img/s" in last and "data wait" not in last
