"""Twenty trials by fixed seeds in this process; `python -m tests.faults` hurts real ones.

Files, file operations, signals and the clock are hurt at random places; then the same run again
must end with the parameters of the one that nobody hurt, or refuse in a line and change nothing.
"""

import errno
import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from tests.faults import small_config
from tests.faults.file_damage import contents, damage_one, overwritten
from tests.faults.small_job import OneMatrix, result_of
from tests.runs import half_way, one_device_mesh, shared_program
from vit_jax_xfer.models import registry
from vit_jax_xfer.storage.checkpoints import CheckpointError
from vit_jax_xfer.train import loop
from vit_jax_xfer.train.metrics import MetricWriter
from vit_jax_xfer.train.stopping import StopSignal

STEPS, EVERY = 4, 2


class FileOperations:
    """Every file that Python opens to write, makes, renames or removes below a folder.

    at: which of them `does` comes before; it is called for that one and all after it.
    """

    _CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir")

    def __init__(self):
        self.number = self.at = 0
        self.does = None
        sys.addaudithook(self._heard)

    def arm(self, folder, at, does):
        self._folder, self.number, self.at, self.does = str(folder), 0, at, does

    def _heard(self, event, arguments):
        if self.does is None or not (event in self._CHANGES or event == "open"):
            return
        if event == "open" and not _writes(arguments):
            return
        if not isinstance(arguments[0], str | os.PathLike):
            return
        if not os.fspath(arguments[0]).startswith(self._folder):
            return
        self.number += 1
        if self.number >= self.at:
            self.does(self.number - self.at)


def _writes(arguments):
    """Of the audit event "open": (path, mode, flags)."""
    return bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


OPERATIONS = FileOperations()  # a hook is there for good


def small():
    config = small_config.get_config()
    config.steps, config.eval.every, config.checkpoint.every = STEPS, 0, EVERY
    config.checkpoint.keep_best = 0
    return config


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """The run that nobody hurts, its result, and how many file operations it needs."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch, shared_program():
        patch.setitem(registry.ENTRIES, "one_matrix", (OneMatrix, {}))
        patch.setattr(loop, "make_mesh", one_device_mesh)
        OPERATIONS.arm(folder, 10**9, lambda after: None)
        loop.run(small(), folder)
        operations, OPERATIONS.does = OPERATIONS.number, None
        yield folder, result_of(folder), operations


def run(workdir):
    """What the run ends with: None, "stopped", or its line."""
    try:
        finished = loop.run(small(), workdir)["finished"]
    except (ValueError, OSError, CheckpointError) as error:
        return str(error)
    return None if finished else "stopped"


# --- ways to hurt: each returns whether the next run may refuse -----------------------------------


def frozen_disk(workdir, rng, straight):
    """As kill -9 before a file operation: nothing is written from there on."""

    def freeze(after):
        raise OSError(errno.EROFS, "frozen")

    OPERATIONS.arm(workdir, int(rng.integers(1, straight[2])), freeze)
    assert "frozen" in run(workdir)
    return False


def full_disk(workdir, rng, straight):
    """A few operations fail for want of room; then there is some again."""

    def fail(after):
        if after < 40:
            raise OSError(errno.ENOSPC, "No space left on device")

    OPERATIONS.arm(workdir, int(rng.integers(1, straight[2])), fail)
    said = run(workdir)
    assert said is None or "No space left" in said
    return False


def stopped(workdir, rng, straight):
    """SIGTERM or SIGINT at a file operation of the main thread."""
    number = (signal.SIGTERM, signal.SIGINT)[rng.integers(2)]
    sent = []

    def send(after):
        ours = isinstance(getattr(signal.getsignal(number), "__self__", None), StopSignal)
        if ours and not sent and threading.current_thread() is threading.main_thread():
            sent.append(number)
            os.kill(os.getpid(), number)

    OPERATIONS.arm(workdir, int(rng.integers(1, straight[2])), send)
    said = run(workdir)
    assert said in (None, "stopped")
    if said:
        newest = max(int(p.name) for p in workdir.glob("checkpoints/*") if p.name.isdigit())
        assert newest == len(result_of(workdir, model=False).losses)
    return False


def broken_metrics(workdir, rng, straight):
    """An error of the metrics' writer at a random row."""
    row, write = int(rng.integers(STEPS)), MetricWriter.write

    def fails(self, step, *given, **more):
        if step == row:
            raise OSError(errno.EIO, "Input/output error")
        write(self, step, *given, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MetricWriter, "write", fails)
        assert "Input/output error" in run(workdir)
    return False


def clock_back(workdir, rng, straight):
    """A day earlier from some moment on."""
    now, calls, after = time.time, [0], int(rng.integers(100))

    def earlier():
        calls[0] += 1
        return now() - 86400 * (calls[0] > after)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", earlier)
        assert run(workdir) is None
    return False


def damaged(workdir, rng, straight):
    """A file of a folder half way: of the newest checkpoint, or config.json or metrics.jsonl."""
    half_way(straight[0], workdir, STEPS - EVERY)
    beside = rng.random() < 0.2
    place = workdir / "checkpoints" / str(STEPS - EVERY)
    if beside:
        place = workdir.parent / "beside"
        place.mkdir()
        name = ("config.json", "metrics.jsonl")[rng.integers(2)]
        (workdir / name).rename(place / name)
    damage_one(place, rng)
    if beside and (place / name).exists():
        (place / name).rename(workdir / name)
    return True


# By seed; damage is the cheapest and the most various.
HURTS = [frozen_disk] * 3 + [full_disk, stopped, stopped, broken_metrics, clock_back]
HURTS += [damaged] * 12
# A row that could not be written, or that the damage took, stays away.
TAKES_ROWS = (damaged, broken_metrics, full_disk)


# Orbax closes its event loop while other reads or writes of a checkpoint are still failing.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("seed", range(20))
def test_goes_on_to_the_same_parameters_or_refuses(seed, straight, tmp_path, capfd):
    workdir, rng = tmp_path / "run", np.random.default_rng(seed)
    may_refuse = HURTS[seed](workdir, rng, straight)
    OPERATIONS.does = None
    before = contents(workdir) if may_refuse else {}
    said = run(workdir)
    if may_refuse and said is not None:
        assert len(said.splitlines()) == 1
        assert str(workdir) in said
        assert overwritten(before, workdir) == []
    else:
        assert said is None
        found, wanted = result_of(workdir), straight[1]
        assert found.parameters == wanted.parameters
        if HURTS[seed] not in TAKES_ROWS:
            assert found.losses == wanted.losses
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_of_other_images_is_refused(straight, tmp_path):
    """Which image a step draws hangs on how many there are."""
    beside = half_way(straight[0], tmp_path / "run", EVERY) / f"checkpoints/{EVERY}/extra/metadata"
    known = json.loads(beside.read_text())
    assert known["images"] == {"data.source": 1297}
    beside.write_text(json.dumps({**known, "images": {"data.source": 7}}))
    before = contents(tmp_path / "run")
    assert "data.source: has 1297 images, and this run began with 7" in run(tmp_path / "run")
    assert overwritten(before, tmp_path / "run") == []
    del known["images"]  # as version 0.1 wrote it
    beside.write_text(json.dumps(known))
    assert run(tmp_path / "run") is None
