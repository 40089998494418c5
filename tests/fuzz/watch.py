"""Reads one case, and says what was wrong with how it ended."""

import contextlib
import pathlib
import re
import resource
import shutil
import signal
import tempfile
import traceback
import warnings
from collections.abc import Iterator

import numpy as np

from tests.fuzz.all_readers import ALL_READERS, PREPARED
from vit_jax_xfer.storage.checkpoints import CheckpointError
from vit_jax_xfer.storage.tree_check import OtherArraysError

# What a command turns into a line; what else is raised would be a page.
EXPECTED = (ValueError, OSError, CheckpointError)
SECONDS = 20
MEBIBYTES = 1536
# What a reader of small files has no use for more than: as much as the file says, and Python's own.
TIGHTER = {"pth": 48}


class TooLong(BaseException):
    """A case that does not end; no reader may take it for an error of the file."""


def fault_of(name: str, seed: int, number: int) -> str | None:
    """Runs case `number` of a reader of ALL_READERS; what is wrong, or None.

    Wrong are: another exception than EXPECTED, a message of several lines, more than SECONDS, more
    memory than MEBIBYTES, or TIGHTER, above what there was.
    """
    reader = ALL_READERS[name]
    PREPARED.get(name, lambda: None)()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="case."))
    rng = np.random.default_rng([seed, sum(map(ord, name)), number])
    _reset_peak()
    before = _kibibytes("VmRSS")
    try:
        with warnings.catch_warnings(), time_limit(SECONDS), memory_limit(4 * MEBIBYTES):
            warnings.simplefilter("ignore")
            reader(folder, rng)
    except EXPECTED as error:
        lines = str(error).splitlines()
        if len(lines) > 1 and not isinstance(error, OtherArraysError):
            return f"a message of {len(lines)} lines: {lines[0][:200]!r} … {lines[-1][:200]!r}"
    except TooLong:
        return f"no end in {SECONDS} s\n{_short(traceback.format_exc(limit=-3))}"
    except Exception:
        return _short(traceback.format_exc(limit=-3))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    grown = (_kibibytes("VmHWM") - before) / 1024
    return f"{grown:.0f} MiB of memory" if grown > TIGHTER.get(name, MEBIBYTES) else None


def _short(text: str) -> str:
    """Its last lines, the last of which says what was raised."""
    return "\n".join(line[:200] for line in text.strip().splitlines()[-12:])


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """TooLong inside, after so many seconds."""

    def end(number: int, frame: object) -> None:
        raise TooLong

    handler = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)


@contextlib.contextmanager
def memory_limit(mebibytes: int) -> Iterator[None]:
    """MemoryError inside, instead of a machine that runs out of memory."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    room = used * resource.getpagesize() + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (room, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _reset_peak() -> None:
    pathlib.Path("/proc/self/clear_refs").write_text("5")


def _kibibytes(field: str) -> int:
    text = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", text)[1])
