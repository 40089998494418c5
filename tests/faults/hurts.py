"""Every way in which a trial hurts the job, and what must come of it."""

import contextlib
import functools
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.faults.file_damage import DAMAGES, contents, damage_one, overwritten
from tests.faults.small_job import KILLED, Process
from tests.faults.trial import (
    OTHER_PIXELS,
    REFUSED,
    STOPPED,
    WITHOUT,
    Trial,
    Wrong,
    host_flags,
)

DAY = 24 * 3600
HOSTS_GRACE = 120  # seconds in which the others end when one host is gone


class Kind(NamedTuple):
    """hurt: does it to a trial, says what came of it. share: how many of 300 trials are of it."""

    hurt: Callable[[Trial], str]
    share: int


# --- processes ------------------------------------------------------------------------------------


def kill(trial: Trial, in_save: bool) -> str:
    """kill -9, once or twice."""
    for _ in range(int(trial.rng.integers(1, 3))):
        process = trial.start()
        trial.wait_for_save(process) if in_save else trial.sleep()
        process.send(signal.SIGKILL)
        trial.ended(process, KILLED, 0)
    return trial.goes_on()


def stop(trial: Trial, number: signal.Signals, group: bool) -> str:
    """SIGTERM or SIGINT, to the process or to all of its group; one in two inside a save."""
    process = trial.start()
    trial.wait_for_save(process) if trial.rng.random() < 0.5 else trial.sleep()
    sent = time.monotonic()
    process.send(number, group)
    trial.stopped(process, sent)
    return trial.goes_on()


def second_run(trial: Trial) -> str:
    """The same command again while the first still runs: one of them has the folder."""
    first = trial.start()
    trial.sleep(0.8)
    second = trial.start()
    ended = [trial.ended(process, 0, 1) for process in (first, second)]
    if [one.code for one in ended] == [1, 1]:
        raise Wrong(f"both were refused: {[one.err for one in ended]}")
    return trial.goes_on()


def closed_output(trial: Trial) -> str:
    """`| head`: nobody reads stdout, or stderr, any more."""
    which = ("stdout", "stderr")[trial.rng.integers(2)]
    reader, writer = os.pipe()
    process = trial.start(**{which: writer})
    os.close(writer)
    if trial.rng.random() < 0.5:
        os.read(reader, 30)
    os.close(reader)
    trial.notes.append(which)
    trial.ended(process, 0)
    return trial.goes_on()


# --- disks ----------------------------------------------------------------------------------------


def disk_full(trial: Trial) -> str:
    """A file system with room for so many bytes, and for more afterwards."""
    if "FAULTS_MOUNTS" not in os.environ:
        return file_too_large(trial)
    kibibytes = int(2 ** trial.rng.uniform(4, 9.5))
    trial.fields["log__tensorboard"] = bool(trial.rng.random() < 0.5)
    trial.compares_losses = False  # a row that found no room is lost
    trial.notes.append(f"{kibibytes} KiB")
    with small_disk(trial.workdir, kibibytes) as enlarge:
        for _ in range(2):  # again, while it is still full
            kept = trial.newest()
            ended = trial.ended(trial.start(), 0, 1)
            if ended.code == 1 and not any(said in ended.err for said in ("space left", "ENOSPC")):
                raise Wrong(f"its line doesn't name the disk: {ended.err!r}")
            if trial.newest() < kept:
                raise Wrong(f"checkpoint {kept} is lost")
        enlarge()
        return trial.goes_on()


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, kibibytes: int) -> Iterator[Callable[[], None]]:
    """A folder with room for so much; what it gives makes room."""
    folder.mkdir(parents=True, exist_ok=True)

    def mount(*options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], check=True)

    mount("-o", f"size={kibibytes}k")
    try:
        yield lambda: mount("-o", "remount,size=64m")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def file_too_large(trial: Trial) -> str:
    """A limit on the bytes of each file, in place of a full disk; then none."""
    limit = int(2 ** trial.rng.uniform(5, 12))
    trial.compares_losses = False
    trial.notes.append(f"{limit} bytes a file")

    def before() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    # Its own output too would be cut.
    null = os.open(os.devnull, os.O_WRONLY)
    process = trial.start(before=before, stdout=null, stderr=os.dup(null))
    os.close(null)
    if process.wait().code not in (0, 1):
        raise Wrong(f"status {process.poll()}")
    return trial.goes_on()


def folder_gone(trial: Trial) -> str:
    """The shared folder is away for some seconds, then there again as it was."""
    seconds = float(trial.rng.choice([0.3, 1.0, 3.0, 30.0], p=[0.4, 0.3, 0.2, 0.1]))
    process = trial.start()
    while process.poll() is None and not trial.workdir.exists():
        time.sleep(0.005)
    trial.sleep(0.7)
    trial.notes.append(f"for {seconds} s")
    away = trial.folder / "away"
    if process.poll() is None:
        trial.workdir.rename(away)
        # Nothing can be made in its place either.
        trial.workdir.symlink_to("/nonexistent/server/run")
        time.sleep(seconds)
        trial.workdir.unlink()
        away.rename(trial.workdir)
    trial.ended(process, 0, 1)
    return trial.goes_on()


def clock_back(trial: Trial) -> str:
    """The clock goes back by a day while it runs; or between a kill and the next start."""
    if trial.rng.random() < 0.5:
        after = trial.rng.uniform(0, trial.straight.seconds)

        def before() -> None:
            clock, begun = time.time, time.time()
            time.time = lambda: clock() - DAY * (clock() - begun > after)

        trial.ended(trial.start(before=before), 0)
        return trial.is_same()
    process = trial.start()
    trial.sleep()
    process.send(signal.SIGKILL)
    trial.ended(process, KILLED, 0)
    for path in trial.workdir.rglob("*"):
        os.utime(path, (time.time() + DAY,) * 2)
    return trial.goes_on()


# --- files ----------------------------------------------------------------------------------------


def checkpoint_damaged(trial: Trial, kind: str) -> str:
    """A file of the newest checkpoint; with checkpoint.fallback it must go on nevertheless."""
    newest = trial.half_way()
    file, _ = damage_one(newest, trial.rng, (kind,))
    trial.notes.append(str(file.relative_to(trial.workdir)))
    came = trial.goes_on_or_refuses(str(newest))
    if came == REFUSED and trial.rng.random() < 0.5:
        trial.notes.append("then with checkpoint.fallback")
        ended = trial.ended(trial.start("--config.checkpoint.fallback=True"), 0)
        if str(newest) not in ended.out + ended.err:
            raise Wrong(f"it doesn't say that it left {newest}: {ended.out!r} {ended.err!r}")
        return trial.is_same()
    return came


def run_file_damaged(trial: Trial) -> str:
    """config.json or metrics.jsonl beside the checkpoints."""
    trial.half_way()
    name = ("config.json", "metrics.jsonl")[trial.rng.integers(2)]
    kind = tuple(DAMAGES)[trial.rng.integers(len(DAMAGES))]
    DAMAGES[kind](trial.workdir / name, trial.rng)
    trial.notes.append(f"{name} {kind}")
    # Rows of metrics that are gone stay gone: the parameters are what counts.
    trial.compares_losses = name != "metrics.jsonl"
    return trial.goes_on_or_refuses(name, "other settings")


def data_damaged(trial: Trial, source: str) -> str:
    """A file of the data, before the start or between a kill and the next start."""
    with damaged_input(trial, source) as folder:
        # Before its first start a run can't know of a file that is gone.
        fresh = trial.rng.random() < 0.5
        kinds = tuple(kind for kind in DAMAGES if not (fresh and kind == "removed"))
        if not fresh:
            trial.half_way()
            trial.notes.append("half way")
        file, kind = damage_one(folder, trial.rng, kinds)
        trial.notes.append(f"{file.name} {kind}")
        before = contents(trial.workdir) if trial.workdir.exists() else {}
        ended = trial.ended(trial.start(), 0, 1)
        said = file.name in ended.out + ended.err
        if ended.code == 1 and (changed := overwritten(before, trial.workdir)):
            raise Wrong(f"refused, but changed {changed[:3]}")
        if ended.code == 1 and not said and kind != "removed":
            raise Wrong(f"its line doesn't name {file.name}: {ended.err!r}")
        if ended.code == 1:
            trial.notes.append(ended.err.strip().splitlines()[-1])
            return REFUSED
        if said:
            return WITHOUT
        try:
            return trial.is_same()
        except Wrong:
            if kind in ("flipped", "zeros") and file.suffix != ".npz":
                return OTHER_PIXELS  # a format without checksums
            raise


def model_damaged(trial: Trial) -> str:
    """A file of the model folder that the run starts from."""
    trial.inputs.add_model(trial.straight.folder / "model")
    with damaged_input(trial, "model") as folder:
        file, kind = damage_one(folder, trial.rng)
        trial.notes.append(f"{file.relative_to(folder)} {kind}")
        return trial.goes_on_or_refuses(str(folder), "init_from")


@contextlib.contextmanager
def damaged_input(trial: Trial, name: str) -> Iterator[pathlib.Path]:
    """Sets the fields for an input; its folder, which is whole again afterwards."""
    trial.fields |= trial.inputs.fields(name)
    trial.straight  # noqa: B018 - made before anything is damaged
    folder = trial.inputs.folder(name)
    whole = shutil.copytree(folder, trial.folder / "whole")
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        whole.rename(folder)


# --- workers --------------------------------------------------------------------------------------


def worker_killed(trial: Trial) -> str:
    """kill -9 to a process that prepares images."""
    process = with_worker(trial)
    workers = process.workers()
    trial.notes.append(f"{len(workers)} workers")
    if workers:
        os.kill(workers[trial.rng.integers(len(workers))], signal.SIGKILL)
    trial.ended(process, 0, 1)
    return trial.goes_on()


def stop_with_worker(trial: Trial) -> str:
    """SIGINT or SIGTERM to the group, workers included."""
    process = with_worker(trial)
    sent = time.monotonic()
    process.send((signal.SIGINT, signal.SIGTERM)[trial.rng.integers(2)], group=True)
    trial.stopped(process, sent)
    return trial.goes_on()


def kill_above_worker(trial: Trial) -> str:
    """kill -9 to the run alone: its workers must end by themselves."""
    process = with_worker(trial)
    process.send(signal.SIGKILL)
    trial.ended(process, KILLED, 0)
    return trial.goes_on()


def with_worker(trial: Trial) -> Process:
    """A run with a worker process, at a random moment after the first steps."""
    trial.fields |= {**trial.inputs.fields("images"), "data__workers": 1}
    process = trial.start()
    while process.poll() is None and not trial.rows():
        time.sleep(0.01)
    time.sleep(trial.rng.uniform(0, 1))
    return process


# --- hosts ----------------------------------------------------------------------------------------


def one_of_two(trial: Trial, number: signal.Signals) -> str:
    """Of two hosts one is killed, stands still, or hears SIGTERM alone."""
    trial.hosts = 2
    pair = start_hosts(trial)
    # Before they have met, each waits for the other for JAX's five minutes.
    while pair[0].poll() is None and not trial.workdir.exists():
        time.sleep(0.01)
    trial.sleep(0.6)
    which = int(trial.rng.integers(2))
    trial.notes.append(f"host {which}")
    sent = time.monotonic()
    pair[which].send(number)
    other = trial.ended(pair[1 - which], 0, 1, STOPPED, timeout=HOSTS_GRACE)
    trial.notes.append(f"the other ended with {other.code} after {time.monotonic() - sent:.0f} s")
    if number != signal.SIGTERM:
        pair[which].send(signal.SIGKILL)
    pair[which].wait()
    for process in reversed(start_hosts(trial)):
        trial.ended(process, 0)
    return trial.is_same()


def start_hosts(trial: Trial) -> list[Process]:
    """Both processes of the job; of the one that starts last the result is compared."""
    first, second = host_flags(2)
    other = trial.start(*second)
    return [trial.start(*first), other]


def _kinds() -> dict[str, Kind]:
    part = functools.partial
    term, interrupt = signal.SIGTERM, signal.SIGINT
    return {
        "kill -9 at a random moment": Kind(part(kill, in_save=False), 30),
        "kill -9 inside a save": Kind(part(kill, in_save=True), 30),
        "SIGTERM to the process": Kind(part(stop, number=term, group=False), 20),
        "SIGTERM to the group": Kind(part(stop, number=term, group=True), 15),
        "SIGINT to the process": Kind(part(stop, number=interrupt, group=False), 15),
        "SIGINT to the group": Kind(part(stop, number=interrupt, group=True), 15),
        "the same command twice at once": Kind(second_run, 10),
        "stdout or stderr closed": Kind(closed_output, 8),
        "disk full at random bytes": Kind(disk_full, 22),
        "a limit on a file's bytes": Kind(file_too_large, 8),
        "folder gone for 0.3 to 30 s": Kind(folder_gone, 12),
        "clock set back by a day": Kind(clock_back, 10),
        "file of a checkpoint truncated": Kind(part(checkpoint_damaged, kind="truncated"), 14),
        "bits of a checkpoint flipped": Kind(part(checkpoint_damaged, kind="flipped"), 14),
        "block of a checkpoint zero": Kind(part(checkpoint_damaged, kind="zeros"), 8),
        "file of a checkpoint removed": Kind(part(checkpoint_damaged, kind="removed"), 8),
        "config.json or metrics.jsonl damaged": Kind(run_file_damaged, 10),
        "an image file damaged": Kind(part(data_damaged, source="images"), 10),
        "an .npz of images damaged": Kind(part(data_damaged, source="arrays"), 6),
        "model folder of init_from damaged": Kind(model_damaged, 12),
        "a worker killed": Kind(worker_killed, 5),
        "signal to the group with a worker": Kind(stop_with_worker, 5),
        "kill -9 above a worker": Kind(kill_above_worker, 3),
        "one of two hosts killed": Kind(part(one_of_two, number=signal.SIGKILL), 4),
        "one of two hosts stopped": Kind(part(one_of_two, number=signal.SIGSTOP), 3),
        "SIGTERM to one of two hosts": Kind(part(one_of_two, number=term), 3),
    }


KINDS = _kinds()
