"""Clean stops: signals, agreement of several processes, a loss that is no number."""

import os
import pathlib
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import pytest

from vit_jax_xfer.train import stopping
from vit_jax_xfer.train.stopping import EvaluationLeft, NonFiniteLoss, StopSignal, check_finite

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
        with pytest.raises(EvaluationLeft):
            stop.leave_evaluation(1)


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


def test_processes_agree_only_every_few_steps(monkeypatch, capfd):
    others, asked = [False], []

    def allgather(flag):
        asked.append(step)
        return np.array([flag, others[0]])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(stopping.multihost_utils, "process_allgather", allgather)
    with StopSignal(every=10) as stop:
        for step in range(12):
            assert not stop.requested(step)
        os.kill(os.getpid(), signal.SIGTERM)
        for step in range(12, 20):
            assert not stop.requested(step)  # the other process does not know yet
        for step in range(20, 25):
            assert stop.requested(step)
    assert asked == [0, 10, 20]
    others[0] = True
    with StopSignal(every=1) as stop:
        step = 25
        assert stop.requested(25)


def test_finite_loss_passes():
    check_finite(3, 0.5)


@pytest.mark.parametrize(
    ("last", "text"),
    [
        (None, "there is no checkpoint yet"),
        (5, "the checkpoint before step 5 is intact"),
        (7, "the checkpoint before step 7 may hold the bad values already"),
    ],
)
@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_loss_is_one_clear_line(loss, last, text):
    with pytest.raises(NonFiniteLoss) as caught:
        check_finite(7, loss, last)
    message = str(caught.value)
    assert message.startswith(f"loss is {loss} at step 7: the learning rate")
    assert message.endswith(text)
    assert len(message.splitlines()) == 1


TWO_PROCESSES = """
import os, signal, sys
import jax, jax.numpy as jnp, numpy as np
port, index, directory = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(f"localhost:{port}", 2, index)
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from vit_jax_xfer.storage import checkpoints
from vit_jax_xfer.train import stopping

sharding = NamedSharding(Mesh(np.array(jax.devices()), ("data",)), PartitionSpec("data"))
make = jax.jit(lambda step: {"x": jnp.arange(8.0) + step}, out_shardings=sharding)
kept = checkpoints.Checkpoints(directory + "/ckpt", best_metric="top1")
with kept as ckpt, stopping.StopSignal(every=5) as stop:
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
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err[-3000:]
        assert "stopped 10 [2, 10] 2 {'step': 10} {'version': 1}" in out


@pytest.fixture
def unused_tcp_port() -> int:
    import socket

    with socket.socket() as sock:
        sock.bind(("localhost", 0))
        return sock.getsockname()[1]
