"""Contenders timed side by side in one process, and the figures as JSON lines and a table."""

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from vit_jax_xfer.explain.progress import Progress

# Thread pools wait actively for a while after a call, which would slow the next contender.
REST_S = 0.02


def alternate(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each contender's calls, by turns; each turn is one call untimed, one timed.

    A contender returns when its work is done. The order turns round, so that none has always the
    same neighbour before it.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    with Progress(rounds + 1, "rounds") as progress:
        for turn in range(rounds + 1):
            for name in names if turn % 2 else reversed(names):
                contenders[name]()
                begin = time.perf_counter()
                contenders[name]()
                if turn:  # the first round warms up
                    times[name].append(1e3 * (time.perf_counter() - begin))
                time.sleep(REST_S)
            progress.report(turn + 1)
    return times


def summary(times: Sequence[float]) -> dict[str, float]:
    """Median, least, and the 10th and 90th of a hundred, in ms."""
    ordered = sorted(times)
    last = len(ordered) - 1
    figures = {
        "median_ms": statistics.median(ordered),
        "min_ms": ordered[0],
        "p10_ms": ordered[round(0.1 * last)],
        "p90_ms": ordered[round(0.9 * last)],
    }
    return {name: round(value, 2) for name, value in figures.items()} | {"n": len(ordered)}


def machine() -> dict[str, Any]:
    """What the figures were measured on, and when."""
    device = jax.devices()[0]
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.date.today().isoformat(),
        "machine": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "device": device.device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", ""),
        "load": round(os.getloadavg()[0], 1),
    }


def markdown(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """A table of the rows; a column that a row does not have stays empty."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [" | ".join(str(row.get(column, "")) for column in columns) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)
