"""launch/local.sh: several processes on this machine, for real."""

import os
import re
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.runs import ROOT, Ended, command, finish

# A run that ends as it should when it is asked to.
RUN = """#!/usr/bin/env bash
[[ $1 != -c ]] || { echo 1234; exit; }
trap 'exit 143' TERM
echo training
while :; do sleep 0.05; done
"""


def begin(*arguments: str, python: Any = sys.executable) -> subprocess.Popen:
    return subprocess.Popen(
        [ROOT / "launch" / "local.sh", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHON": str(python), "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_hear_interrupts,
    )


def _hear_interrupts() -> None:
    """A script can't trap what it was started to ignore, as tests in the background are SIGINT.

    So are those below nohup SIGHUP.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def launch(*arguments: str) -> Ended:
    return finish(begin(*arguments), timeout=180)


def test_usage_is_one_line():
    for arguments in ((), ("two", "--config=x"), ("2",)):
        ended = launch(*arguments)
        assert ended.code == 2 and ended.err.startswith("usage: launch/local.sh")


def test_an_error_ends_all_processes(tmp_path):
    ended = launch("2", "--config=configs/scratch.py:digits", f"--workdir={tmp_path / 'run'}",
                   "--config.batch_size=7")  # fmt: skip
    assert ended.code == 1
    assert "batch_size: 7 is not a multiple of the mesh's data × fsdp = 2" in ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("ask", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_whatever_asks_for_a_stop_stops_all(ask, tmp_path):
    run = tmp_path / "run"
    run.write_text(RUN)
    run.chmod(0o755)
    process = begin("2", "--config=x", "--workdir=y", python=run)
    for _ in range(2):
        assert process.stdout.readline() == "training\n"
    process.send_signal(getattr(signal, ask))
    assert finish(process, timeout=60).code == 143


def test_sigterm_stops_all_saved(tmp_path):
    """That such a run goes on, tests/train/test_processes.py shows."""
    arguments = command("scratch", tmp_path, checkpoint__every=5, steps=100_000)[3:]
    process = begin("2", *arguments)
    end = time.monotonic() + 150
    while not any(path.name.isdigit() for path in tmp_path.glob("checkpoints/*")):
        assert time.monotonic() < end and process.poll() is None, finish(process, 10)
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.code == 143, ended.err
    step = re.search(r"stopped before step (\d+); the same command goes on", ended.out).group(1)
    assert (tmp_path / "checkpoints" / step).is_dir()
