"""Which processes a run joins, told from flags, the scheduler's variables and the hardware."""

import importlib.util
import socket

import jax
import pytest

from vit_jax_xfer.train import hosts
from vit_jax_xfer.train.launch import connect


@pytest.fixture
def joined(monkeypatch) -> list[tuple]:
    """The calls of `jax.distributed.initialize`, which does nothing here."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *given: calls.append(given))
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    return calls


def test_flags_are_passed_on_and_go_together(joined):
    connect("host:1", 2, 0)
    assert joined == [("host:1", 2, 0)]
    with pytest.raises(SystemExit, match="go together"):
        connect("host:1", None, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("node7", 2, 0), "--coordinator: got 'node7', expected HOST:PORT"),
        (("node7:a", 2, 0), "--coordinator: got 'node7:a'"),
        (("node7:1", 2, 2), "--process: got 2 of --processes=2; they are numbered from 0"),
        (("node7:1", 2, -1), "--process: got -1 of"),
        (("node7:1", 0, 0), "--process: got 0 of --processes=0"),
    ],
)
def test_flags_that_cannot_be_are_named(given, message, joined):
    with pytest.raises(ValueError, match=message):
        connect(*given)
    assert joined == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken_is_named(host, monkeypatch):
    """On which jaxlib's server ends the process with a segmentation fault."""
    monkeypatch.setattr(hosts._jax, "get_distributed_runtime_service", lambda *given, **more: None)
    served = []

    def initialize(address, *given):
        served.append(hosts._jax.get_distributed_runtime_service(f"[::]:{address[5:]}", 1))

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with socket.socket() as other:
        other.bind((host, 0))
        other.listen()
        address = f"host:{other.getsockname()[1]}"
        with pytest.raises(OSError, match=f"^--coordinator: port {address[5:]} .* another$"):
            connect(address, 1, 0)
    connect(address, 1, 0)
    assert served == [None]


def test_processes_that_do_not_meet_are_told_in_a_line(monkeypatch):
    """And this one is alone: whoever ended it would else wait for a store that is not there."""
    state = hosts.distributed.global_state

    def fail(*given):
        monkeypatch.setattr(state, "client", object())
        monkeypatch.setattr(state, "num_processes", 2)
        raise RuntimeError("DEADLINE_EXCEEDED: Deadline Exceeded\n\nRPC: /xla…")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    said = r"^the 2 processes at node7:1 did not meet \(DEADLINE_EXCEEDED: [^\n]*$"
    with pytest.raises(ConnectionError, match=said):
        connect("node7:1", 2, 1)
    assert not hosts.several() and hosts.end("") == 1


def test_process_0_is_a_given_process(joined):
    connect("host:1", 1, 0)
    with pytest.raises(SystemExit, match="go together"):
        connect(None, None, 0)
    assert joined == [("host:1", 1, 0)]


@pytest.mark.parametrize("name", ["SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_a_scheduler_with_several_tasks_is_joined(joined, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    connect(None, None, None)
    assert joined == []
    monkeypatch.setenv(name, "2")
    connect(None, None, None)
    assert joined == [()]


def test_a_shell_of_a_job_of_several_tasks_starts_one_alone(joined, monkeypatch):
    """As in sbatch's script without srun, and in salloc's shell, which is a step of one task."""
    monkeypatch.setenv("SLURM_NTASKS", "8")
    connect(None, None, None)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    connect(None, None, None)
    assert joined == []


def test_a_tpu_is_joined_unless_the_run_is_on_another_platform(joined, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "libtpu" or None)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    connect(None, None, None)
    assert joined == []
    monkeypatch.delenv("JAX_PLATFORMS")
    connect(None, None, None)
    assert joined == [()]
    monkeypatch.setenv("JAX_PLATFORMS", "")  # to JAX the same as none
    connect(None, None, None)
    assert joined == [(), ()]


def test_a_host_of_a_pod_does_not_go_on_alone(joined, monkeypatch):
    def fail():
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(jax.distributed, "initialize", fail)
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(RuntimeError, match="DEADLINE_EXCEEDED"):
        connect(None, None, None)


def test_a_lone_tpu_goes_on_alone(joined, monkeypatch, capsys):
    def fail():
        raise ValueError("coordinator_address should be defined")

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(jax.distributed, "initialize", fail)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    connect(None, None, None)
    assert "going on alone" in capsys.readouterr().out
