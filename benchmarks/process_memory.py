"""What Linux counts of memory, in bytes. Elsewhere it is unknown."""

import contextlib
from pathlib import Path

_PROC = Path("/proc")


def counted(process: int | str = "self") -> dict[str, int]:
    """Of a process: VmRSS, VmHWM (the most since `forget_peak`), RssAnon, …; {} where unknown."""
    return _table(_PROC / str(process) / "status")


def private() -> int:
    """What this process has that no other could share. OSError where unknown."""
    rows = _table(_PROC / "self" / "smaps_rollup")
    if not rows:
        raise OSError(f"{_PROC}/self/smaps_rollup: Linux alone tells what a process shares")
    return rows["Private_Dirty"] + rows["Private_Clean"]


def available() -> int | None:
    """What processes may still take of this machine's; None where unknown."""
    return _table(_PROC / "meminfo").get("MemAvailable")


def forget_peak(process: int | str = "self") -> None:
    """Starts a process's VmHWM anew, at what it has now."""
    with contextlib.suppress(OSError):
        (_PROC / str(process) / "clear_refs").write_text("5")


def _table(path: Path) -> dict[str, int]:
    """The sizes in one of Linux's tables, lines of NAME: NUMBER kB; {} where it is not."""
    try:
        rows = [line.split() for line in path.read_text().splitlines() if line.endswith(" kB")]
    except OSError:
        return {}
    return {name.rstrip(":"): 1024 * int(number) for name, number, _ in rows}
