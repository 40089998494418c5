"""The machine that figures come from: what it is, and what else it does meanwhile."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax

from benchmarks.shared_flags import BESIDE

# Flags of Linux's /proc/cpuinfo (x86, then ARM) that products of matrices use, widest last.
ISA: dict[str, str] = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_bf16": "AVX512-BF16",
    "amx_bf16": "AMX-BF16",
    "amx_fp16": "AMX-FP16",
    "asimd": "NEON",
    "sve": "SVE",
    "bf16": "BF16",
}
BFLOAT16 = {"AVX512-BF16", "AMX-BF16", "BF16"}
VERSIONS = ("jax", "jaxlib", "flax", "torch", "onnxruntime", "openvino")
# It ends by itself where the benchmark is ended without a word.
_SPIN = """import os, sys
print("begun", flush=True)
while os.getppid() == int(sys.argv[1]):
    sum(range(100_000))
"""
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def machine(threads: int | None = None) -> dict[str, Any]:
    """What the figures were measured on, and when. threads: of either framework; None = unsaid."""
    with OtherWork() as before:
        time.sleep(0.3)
    versions = {name: _version(name) for name in VERSIONS}
    return {
        "date": datetime.date.today().isoformat(),
        "machine": (_cpu_lines("model name") or [platform.machine()])[0],
        "isa": isa(),
        "cores": os.cpu_count(),
        **({} if threads is None else {"threads": threads}),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        **{name: version for name, version in versions.items() if version},
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
        "load": round(os.getloadavg()[0], 1),
        "others %": before.percent,
    }


def isa() -> list[str]:
    """The processor's instructions for products of matrices; [] where Linux doesn't tell."""
    flags = set(" ".join((_cpu_lines("flags") or _cpu_lines("Features"))[:1]).split())
    return [name for flag, name in ISA.items() if flag in flags]


def multiplies_bfloat16() -> bool:
    """Whether the processor has units for products of bfloat16; without, they are slow."""
    return bool(BFLOAT16 & set(isa()))


class OtherWork:
    """How much of the machine other processes took meanwhile. A context manager.

    Processes that this one started are its own, but for `others`, ids of such as stand for other
    work. `percent`, after the block: of all cores' time, None where there is no /proc. What a
    hypervisor took for other machines counts.
    """

    def __init__(self, others: Collection[int] = ()) -> None:
        self.percent: float | None = None
        self._others = frozenset(others)

    def __enter__(self) -> "OtherWork":
        self._begin = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        end = self._now()
        if self._begin is not None and end is not None:
            self.percent = others_percent(self._begin, end)

    def _now(self) -> tuple[float, float, float] | None:
        """Seconds of all cores: whatever they did, busy, busy for this process and its own."""
        with contextlib.suppress(OSError):
            first = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
            user, nice, system, idle, wait, interrupt, soft, stolen = (int(part) for part in first)
            busy = user + nice + system + interrupt + soft + stolen
            everything = busy + idle + wait
            return everything / _TICKS, busy / _TICKS, _own_seconds(self._others)
        return None


def others_percent(
    begin: tuple[float, float, float], end: tuple[float, float, float]
) -> float | None:
    """(all, busy, own) seconds twice → what others took of all, in percent, at least 0."""
    everything, busy, own = (after - before for before, after in zip(begin, end, strict=True))
    return round(100 * max(0.0, busy - own) / everything, 1) if everything > 0 else None


def _own_seconds(others: frozenset[int]) -> float:
    """Processor's time of this process and of all below it, those that ended included."""
    parents: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            # The name, in brackets, may hold spaces. After it: state, parent, …; from the 12th on
            # user and system time, and those of children that ended.
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
            ticks[int(folder.name)] = sum(int(number) for number in fields[11:15])
    total, waiting = 0, [os.getpid()]
    while waiting:
        process = waiting.pop()
        total += ticks.get(process, 0)
        waiting += [child for child in parents.get(process, ()) if child not in others]
    return total / _TICKS


@contextlib.contextmanager
def busy_process() -> Iterator[int]:
    """A process that keeps a core busy meanwhile; gives its id."""
    command = [sys.executable, "-c", _SPIN, str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout:
                process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def in_state(state: str) -> Iterator[OtherWork]:
    """ALONE, or BESIDE one busy process, with what others took: see `OtherWork`."""
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(busy_process())] if state == BESIDE else []
        yield stack.enter_context(OtherWork(others))


def _cpu_lines(field: str) -> list[str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in pairs if name.strip() == field]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
