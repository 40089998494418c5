"""How much memory a device has for a program, where that can be known."""

import os
import pathlib

import jax

_MEMINFO = pathlib.Path("/proc/meminfo")
_CGROUPS = (
    pathlib.Path("/sys/fs/cgroup/memory.max"),
    pathlib.Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def device_memory(device: jax.Device) -> int | None:
    """Bytes that a program of this process may take on one device; None where nothing tells.

    Of an accelerator what JAX may allocate. Of a CPU what is free now and what this process has
    already, no more than its cgroup allows, shared out to the process's devices.
    """
    if device.platform == "cpu":
        whole = host_memory()
        return None if whole is None else whole // len(jax.local_devices(backend="cpu"))
    try:
        return (device.memory_stats() or {}).get("bytes_limit")
    except jax.errors.JaxRuntimeError:
        return None


def host_memory(meminfo: pathlib.Path = _MEMINFO) -> int | None:
    """Bytes that this process has or may get from the host, swap included, as Linux tells it."""
    try:
        told = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = sum(int(told[name].split()[0]) * 1024 for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        return None
    limits = [limit for path in _CGROUPS if (limit := _limit(path)) is not None]
    return min([free + _resident(), *limits])


def _limit(path: pathlib.Path) -> int | None:
    """What a cgroup allows; None where it says no number."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _resident() -> int:
    """Bytes of memory that this process has."""
    pages = pathlib.Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
