"""Linux's counts of memory, and that they are unknown elsewhere."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import process_memory
from benchmarks.process_memory import available, counted, forget_peak, private

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells it")
LARGE = 2**26  # bytes, which the allocator gives back at once


@needs_proc
def test_a_peak_is_kept_until_it_is_forgotten():
    forget_peak()
    before, own = counted()["VmHWM"], private()
    array = np.ones(LARGE, np.uint8)
    assert private() - own > 0.9 * LARGE
    del array
    peak, now = counted()["VmHWM"], counted()["VmRSS"]
    assert peak - before > 0.9 * LARGE and peak - now > 0.5 * LARGE
    forget_peak()
    assert peak - counted()["VmHWM"] > 0.5 * LARGE
    assert available() > LARGE


def test_without_proc_nothing_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(process_memory, "_PROC", tmp_path)
    forget_peak()
    assert counted() == {} and available() is None
    with pytest.raises(OSError, match="smaps_rollup: Linux alone tells"):
        private()
