"""What memory a program may take."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from vit_jax_xfer import device_memory as told
from vit_jax_xfer.device_memory import device_memory, host_memory
from vit_jax_xfer.train.sharding import batch_sharding, make_mesh, replicated

MEMINFO = "MemTotal: 16000000 kB\nMemFree: 10 kB\nMemAvailable: {} kB\nSwapFree: 1000 kB\n"


@pytest.fixture
def host(tmp_path, monkeypatch):
    """host_memory of a machine with so much memory left, and a cgroup's limit."""

    def call(available, limit="max"):
        (tmp_path / "limit").write_text(limit)
        (tmp_path / "meminfo").write_text(MEMINFO.format(available))
        monkeypatch.setattr(told, "_CGROUPS", (tmp_path / "none", tmp_path / "limit"))
        monkeypatch.setattr(told, "_anonymous", lambda: 5 * 1024)
        return host_memory(tmp_path / "meminfo")

    return call


def test_a_host_has_what_is_free_and_what_the_process_has_already(host):
    assert host(2000) == (2000 + 1000 + 5) * 1024


def test_a_cgroup_allows_no_more(host):
    assert host(2000, limit="4096\n") == 4096
    assert host(2000, limit=str(2**63 - 4096)) == 3005 * 1024


def test_a_host_that_tells_nothing(tmp_path):
    assert host_memory(tmp_path / "none") is None
    (tmp_path / "other").write_text("MemTotal: some\n")
    assert host_memory(tmp_path / "other") is None


def test_a_cpus_devices_share_the_host_and_an_accelerator_tells_its_limit(monkeypatch):
    monkeypatch.setattr(told, "host_memory", lambda: 8000)
    monkeypatch.setattr(told, "_anonymous", lambda: 5000)
    # Of the 5,000 that the process has, arrays have 1,000: the rest is no program's.
    monkeypatch.setattr(told, "_of_arrays", lambda: 1000)
    assert device_memory(jax.devices()[0]) == 4000 // len(jax.devices())
    monkeypatch.setattr(told, "_of_arrays", lambda: 6000)  # of files that are mapped
    assert device_memory(jax.devices()[0]) == 8000 // len(jax.devices())
    gpu = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 77})
    assert device_memory(gpu) == 77
    assert device_memory(SimpleNamespace(platform="tpu", memory_stats=lambda: None)) is None


def test_this_machine_tells():
    assert host_memory() > told._anonymous() > 10**7


def test_arrays_count_on_every_device_where_they_lie():
    mesh = make_mesh(len(jax.devices()), 1, 1)
    before = told._of_arrays()
    rows = 16 * len(jax.devices())
    split = jax.device_put(np.ones((rows, 4), np.float32), batch_sharding(mesh))
    assert told._of_arrays() - before == split.nbytes == 16 * rows
    whole = jax.device_put(np.ones((rows, 4), np.float32), replicated(mesh))
    assert told._of_arrays() - before == (1 + len(jax.devices())) * 16 * rows
    whole.delete()
    assert told._of_arrays() - before == split.nbytes
