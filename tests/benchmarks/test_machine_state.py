"""What the machine is, and what others took of it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import machine_state
from benchmarks.machine_state import OtherWork, others_percent
from benchmarks.shared_flags import BESIDE

needs_proc = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux tells it in /proc")
SPIN = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"


def test_others_are_what_is_busy_and_not_ours():
    assert others_percent((100.0, 50.0, 20.0), (120.0, 65.0, 30.0)) == 25.0
    assert others_percent((100.0, 50.0, 20.0), (120.0, 55.0, 30.0)) == 0.0  # ticks are coarse
    assert others_percent((100.0, 50.0, 20.0), (100.0, 50.0, 20.0)) is None


@needs_proc
def test_a_child_is_our_own_unless_it_stands_for_others():
    before = machine_state._own_seconds(frozenset())
    child = subprocess.Popen([sys.executable, "-c", SPIN])
    try:
        while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.05)
        # It has ended and nobody has waited for it: its time is in its own entry still.
        ours = machine_state._own_seconds(frozenset()) - before
        without = machine_state._own_seconds(frozenset([child.pid])) - before
    finally:
        child.wait()
    waited_for = machine_state._own_seconds(frozenset()) - before
    assert ours - without >= 0.45 and waited_for >= 0.45


@needs_proc
def test_a_busy_process_counts_as_others(monkeypatch):
    left_out = []
    monkeypatch.setattr(machine_state, "_own_seconds", lambda others: left_out.append(others) or 0)
    with machine_state.in_state(BESIDE) as others:
        (process,) = left_out[0]
        os.kill(process, 0)  # it runs
        time.sleep(0.05)
    assert 0 <= others.percent <= 100
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_without_proc_nothing_is_said(monkeypatch):
    monkeypatch.setattr(machine_state, "Path", lambda path: Path("/nowhere") / path.lstrip("/"))
    with OtherWork() as others:
        pass
    assert others.percent is None and machine_state.isa() == []


def test_the_machines_line(monkeypatch):
    lines = {"model name": ["A Processor"], "flags": ["fpu avx2 avx512f amx_bf16 amx_tile"] * 2}
    monkeypatch.setattr(machine_state, "_cpu_lines", lambda field: lines.get(field, []))
    found = machine_state.machine(threads=2)
    assert found["machine"] == "A Processor" and found["threads"] == 2
    assert found["isa"] == ["AVX2", "AVX512", "AMX-BF16"]
    assert found["jax"] and found["cores"] >= 1 and "load" in found
    assert machine_state.multiplies_bfloat16()
    lines["flags"] = ["fpu avx2"]
    assert not machine_state.multiplies_bfloat16()
