"""How much memory a device has for a program, where that can be known."""

import math
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

    Of an accelerator what JAX may allocate. Of a CPU what is free now and what arrays on devices
    have already, no more than its cgroup allows, shared out to the process's devices. What Python,
    its libraries and data outside of arrays take is none of a program's.
    """
    if device.platform == "cpu":
        whole = host_memory()
        if whole is None:
            return None
        others = max(0, _anonymous() - _of_arrays())
        return max(0, whole - others) // len(jax.local_devices(backend="cpu"))
    try:
        return (device.memory_stats() or {}).get("bytes_limit")
    except jax.errors.JaxRuntimeError:
        return None


def host_memory(meminfo: pathlib.Path = _MEMINFO) -> int | None:
    """Bytes that this process has or may get from the host, swap included, as Linux tells it.

    Without pages of files, which are no more its own than the system's.
    """
    try:
        told = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = sum(int(told[name].split()[0]) * 1024 for name in ("MemAvailable", "SwapFree"))
    except (OSError, KeyError, ValueError):
        return None
    limits = [limit for path in _CGROUPS if (limit := _limit(path)) is not None]
    return min([free + _anonymous(), *limits])


def _limit(path: pathlib.Path) -> int | None:
    """What a cgroup allows; None where it says no number."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _anonymous() -> int:
    """Bytes of memory that this process has, without pages of files."""
    resident, shared = map(int, pathlib.Path("/proc/self/statm").read_text().split()[1:3])
    return (resident - shared) * os.sysconf("SC_PAGE_SIZE")


def _of_arrays() -> int:
    """Bytes that live arrays have on this process's devices, each part where it lies."""
    total = 0
    for array in jax.live_arrays("cpu"):
        places = array.sharding.addressable_devices
        size = math.prod(array.sharding.shard_shape(array.shape))
        total += len(places) * size * array.dtype.itemsize
    return total
