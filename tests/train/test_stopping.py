"""Clean stops: signals, agreement of several processes, a loss that is no number."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.train import agreement
from vit_jax_xfer.train.stopping import (
    NonFiniteLoss,
    StoppedMidway,
    StopSignal,
    check_finite,
    check_state,
)

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_only_asks(number, capfd):
    before = signal.getsignal(number)
    with StopSignal() as stop:
        assert not stop.requested(0)
        os.kill(os.getpid(), number)
        assert stop.requested(1) and stop.requested(2)
    assert signal.getsignal(number) == before
    assert signal.Signals(number).name in capfd.readouterr().err


def test_an_evaluation_is_left_at_the_next_batch(capfd):
    with StopSignal() as stop:
        stop.leave_evaluation(0)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StoppedMidway):
            stop.leave_evaluation(1)


def test_a_wait_is_ended_by_a_signal_that_comes_in_it_or_just_before(capfd):
    with StopSignal() as stop:
        with pytest.raises(StoppedMidway), stop.ending_wait():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        with pytest.raises(StoppedMidway), stop.ending_wait():
            pass
        os.kill(os.getpid(), signal.SIGTERM)  # outside a wait it asks only


def test_an_evaluation_whose_batches_do_not_come_is_left(capfd):
    def batches():
        yield from range(3)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    seen = []
    with StopSignal() as stop:
        assert list(stop.watched([1, 2])) == [1, 2] and list(stop.watched([])) == []
        with pytest.raises(StoppedMidway):
            seen.extend(stop.watched(batches()))
        with pytest.raises(StoppedMidway):
            next(stop.watched([1]))
    assert seen == [0, 1, 2]


def test_second_interrupt_raises_at_once(capfd):
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested(0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_restored_after_an_error():
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(ZeroDivisionError), StopSignal():
        1 / 0  # noqa: B018
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)] == before


def test_does_nothing_outside_the_main_thread():
    answers = []

    def work():
        with StopSignal() as stop:
            answers.append(stop.requested(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]


@pytest.mark.parametrize("warning", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"])
def test_what_warns_of_an_end_asks_too_unless_that_is_ignored(warning, capfd):
    number = getattr(signal, warning)
    before = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run below nohup
    try:
        with StopSignal() as stop:
            signal.raise_signal(number)
            assert stop.requested(0)
        assert signal.getsignal(number) == signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN)  # as nohup does
        with StopSignal() as stop:
            signal.raise_signal(number)
            assert not stop.requested(0)
    finally:
        signal.signal(number, before)


def test_a_save_is_due_when_the_timer_says_so():
    due = iter([False, True, False])
    with StopSignal(save_due=lambda: next(due)) as stop:
        assert not stop.save_due()  # nobody has asked yet
        for step, expected in enumerate([False, True, False]):
            assert not stop.requested(step) and stop.save_due() == expected


def test_an_evaluation_counts_anew_in_each_set_and_processes_still_agree(monkeypatch):
    asked = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        agreement.multihost_utils,
        "process_allgather",
        lambda own: asked.append(place) or np.array([own, [0, 0, 100]]),
    )
    with StopSignal(every=4, seconds=1e9) as stop:
        for place in range(3):  # steps: the first two show how long one takes
            stop.requested(place)
        for name in ("first", "second"):
            for item in range(7):
                place = f"{name} {item}"
                stop.leave_evaluation(item)
    assert asked == [0, 1, *(f"{name} {i}" for name in ("first", "second") for i in (0, 1, 5))]


def test_finite_values_pass():
    check_finite(3, {"loss": 0.5})


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_loss_is_one_clear_line(loss):
    with pytest.raises(NonFiniteLoss) as caught:
        check_finite(7, {"top1": 0.5, "loss": loss})
    message = str(caught.value)
    assert message.startswith(f"loss is {loss} at step 7: the learning rate")
    assert len(message.splitlines()) == 1 and caught.value.step == 7


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_state_is_checked_whole_and_the_bad_array_named(bad):
    state = {"params": {"kernel": jnp.ones((2, 3))}, "mu": {"kernel": jnp.ones(2, jnp.bfloat16)}}
    state["step"] = jnp.array(3)
    check_state(3, state)
    state["mu"]["kernel"] = state["mu"]["kernel"].at[1].set(bad)
    with pytest.raises(NonFiniteLoss, match="mu/kernel is not finite at step 3"):
        check_state(3, state)


TWO_PROCESSES = """
import os, signal, sys, time
import jax, jax.numpy as jnp, numpy as np
port, index, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(f"localhost:{port}", 2, index)
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from vit_jax_xfer.storage import checkpoints
from vit_jax_xfer.train import stopping

sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
make = jax.jit(lambda step: {"x": jnp.arange(8.0) + step}, out_shardings=sharding)
from vit_jax_xfer.train import agreement

exchange, exchanges = agreement.multihost_utils.process_allgather, []

def counted(*given, **more):
    exchanges.append(given)
    return exchange(*given, **more)

agreement.multihost_utils.process_allgather = counted
for stops in range(2):  # the second time the service's one sync point is used up
    with stopping.StopSignal(every=5, sync_point=True, save_within=30) as stop:
        for step in range(2000):
            if step == 7 and index == 1:  # only one of the two hears of it
                os.kill(os.getpid(), signal.SIGINT if stops == 0 else signal.SIGTERM)
            if stop.requested(step):
                print(f"told at {step} after {len(exchanges)} exchanges", flush=True)
                break
            time.sleep(0.01)

kept = checkpoints.Checkpoints(directory + "/ckpt", best_metric="top1")
with kept as ckpt, stopping.StopSignal(every=5, seconds=1e9) as stop:
    for step in range(100):
        if step == 7 and index == 1:
            os.kill(os.getpid(), signal.SIGTERM)  # only one of the two hears of it
        if stop.requested(step):
            break
        state = make(step)
        if step in (2, 4):
            ckpt.save(step, state, {"step": step})
            ckpt.rate(step, {"top1": 1 / step})
    ckpt.save(step, state, {"step": step})
    restored, extra = ckpt.restore(state)
    np.testing.assert_array_equal(
        np.asarray(restored["x"].addressable_data(0)), np.asarray(state["x"].addressable_data(0))
    )
for version in range(2):
    checkpoints.save_model(directory + "/model", state, {"version": version})
variables, description = checkpoints.load_model(directory + "/model")
np.testing.assert_array_equal(variables["x"], np.arange(8.0) + step - 1)
checkpoints.save_model(directory + "/copy", variables, {})  # whole arrays on every host
np.testing.assert_array_equal(checkpoints.load_model(directory + "/copy")[0]["x"], variables["x"])
print(f"stopped {step} {ckpt.steps()} {ckpt.best_step()} {extra} {description}", flush=True)
"""


def test_two_processes_stop_at_the_same_step_and_save_together(tmp_path, unused_tcp_port):
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TWO_PROCESSES, str(unused_tcp_port), str(i), str(tmp_path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    told = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err[-3000:]
        told.append([line for line in out.splitlines() if line.startswith("told at ")])
        assert "stopped 11 [2, 11] 2 {'step': 11} {'version': 1}" in out
    # By the service's sync point, beside the first two exchanges, which show how long steps take;
    # then by exchanges.
    assert told[0] == told[1] and len(told[0]) == 2
    assert re.fullmatch(r"told at \d+ after 2 exchanges", told[0][0])


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]
