"""One trial: a folder of its own, the job in it, and what must be true of every end."""

import pathlib
import shutil
import signal
import socket
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tests.faults.file_damage import contents, overwritten
from tests.faults.inputs import Inputs
from tests.faults.small_config import STEPS
from tests.faults.small_job import Process, Result, command, read_result
from tests.runs import Ended, half_way
from vit_jax_xfer.train.metrics import read_metrics

# What may come of a trial.
SAME, REFUSED, WRONG = "same parameters", "refused in a line", "wrong"
WITHOUT, OTHER_PIXELS = "went on without it and said so", "an image of other pixels"
OUTCOMES = (SAME, REFUSED, WITHOUT, OTHER_PIXELS, WRONG)
GRACE = 10  # seconds from a signal to the end of the process
STOPPED = 143


class Wrong(AssertionError):
    """What must not happen, in a line."""


class Straight(NamedTuple):
    """A run that nobody hurt, which the hurt ones must equal: its folder, result and seconds."""

    folder: pathlib.Path
    result: Result
    seconds: float


class StraightRuns:
    """One for each set of fields and number of hosts, made when it is first asked for."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._known: dict[str, Straight] = {}

    def __call__(self, fields: dict[str, Any], hosts: int) -> Straight:
        """The run of these fields of the config."""
        key = f"{sorted(fields.items())} {hosts}"
        if key not in self._known:
            workdir = self._folder / str(len(self._known))
            begun = time.monotonic()
            processes = [
                Process(
                    command(workdir, fields, *flags), self._folder / f"{workdir.name}.said{number}"
                )
                for number, flags in enumerate(host_flags(hosts))
            ]
            for process in processes:
                if (ended := process.wait()).code:
                    raise RuntimeError(f"a run that nobody hurt ends with {ended}")
            seconds = time.monotonic() - begun
            self._known[key] = Straight(workdir, read_result(processes[0].folder), seconds)
        return self._known[key]


def host_flags(hosts: int) -> list[list[str]]:
    """The flags of each of several processes that are one run; none for a single one."""
    if hosts == 1:
        return [[]]
    with socket.socket() as server:
        server.bind(("localhost", 0))
        address = f"localhost:{server.getsockname()[1]}"
    all_have = [f"--coordinator={address}", f"--processes={hosts}"]
    return [[*all_have, f"--process={number}"] for number in range(hosts)]


class Trial:
    """The job in a folder, and the random numbers that decide what is done to it.

    fields: of the job's config. hosts: how many processes are one run. compares_losses: whether
    each step's row of metrics must be there in the end. notes: what was done, for the log.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        rng: np.random.Generator,
        straight: Callable[[dict[str, Any], int], Straight],
        inputs: Inputs,
    ):
        self.folder, self.rng, self._straight, self.inputs = folder, rng, straight, inputs
        self.workdir = folder / "run"
        self.fields: dict[str, Any] = {}
        self.hosts = 1
        self.compares_losses = True
        self.notes: list[str] = []
        self._starts = 0
        folder.mkdir(parents=True)

    # --- what is run ------------------------------------------------------------------------------

    def start(self, *flags: str, **how: Any) -> Process:
        """The job's command once more; how: of `Process`."""
        self.straight  # noqa: B018 - not made between the start and what hurts it
        self._starts += 1
        folder = self.folder / f"said{self._starts}"
        return Process(command(self.workdir, self.fields, *flags), folder, **how)

    def half_way(self) -> pathlib.Path:
        """Makes the folder what a kill at two thirds left. Returns its newest checkpoint."""
        step = 2 * STEPS // 3
        half_way(self.straight.folder, self.workdir, step)
        return self.workdir / "checkpoints" / str(step)

    def sleep(self, part: float = 1.0) -> None:
        """Waits for a random moment of the first `part` of such a run."""
        seconds = self.rng.uniform(0, part * self.straight.seconds)
        self.notes.append(f"after {seconds:.2f} s")
        time.sleep(seconds)

    def wait_for_save(self, process: Process) -> None:
        """Waits until a save has begun, the first to the last of them, and some milliseconds."""
        saves, milliseconds = self.rng.integers(1, STEPS // 4 + 1), self.rng.uniform(0, 60)
        seen: set[str] = set()
        while process.poll() is None and len(seen) < saves:
            seen |= {path.name for path in self.workdir.glob("checkpoints/*-tmp*")}
            time.sleep(0.001)
        time.sleep(milliseconds / 1000)
        self.notes.append(f"in save {saves} after {milliseconds:.0f} ms")

    # --- what must be true ------------------------------------------------------------------------

    @property
    def straight(self) -> Straight:
        """The same job when nobody hurts it. Ask for it before anything is damaged."""
        return self._straight(self.fields, self.hosts)

    def ended(self, process: Process, *allowed: int, timeout: float = 120) -> Ended:
        """Waits for the end. Wrong: another status, a traceback, no line or many, orphans."""
        try:
            ended = process.wait(timeout)
        except AssertionError as error:
            raise Wrong(str(error)) from None
        if ended.code not in allowed:
            raise Wrong(f"status {ended.code}, not {allowed}: {_tail(ended)}")
        if "Traceback" in ended.err + ended.out:
            raise Wrong(f"a traceback: {_tail(ended, 3000)}")
        errors = [line for line in ended.err.splitlines() if line.startswith("error: ")]
        if ended.code == 1 and len(errors) != 1:
            raise Wrong(f"{len(errors)} lines of errors: {_tail(ended)}")
        if len(ended.err.splitlines()) > 8:
            raise Wrong(f"{len(ended.err.splitlines())} lines on stderr: {_tail(ended, 3000)}")
        end = time.monotonic() + 5
        while process.relatives() and time.monotonic() < end:
            time.sleep(0.05)
        if left := process.relatives():
            process.send(signal.SIGKILL, group=True)
            raise Wrong(f"{len(left)} processes are left 5 s after its end")
        return ended

    def stopped(self, process: Process, sent: float) -> None:
        """After a signal: it saved in time, lost no step; or hadn't begun, or was through."""
        # Outside of the run proper the signal ends it as it ends any process.
        ended = self.ended(process, STOPPED, 0, -signal.SIGTERM, -signal.SIGINT, 130, 1)
        if (seconds := time.monotonic() - sent) > GRACE:
            raise Wrong(f"{seconds:.0f} s from the signal to the end")
        if ended.code not in (STOPPED, 0):
            if self.rows() and not (self.workdir / "result.json").is_file():
                raise Wrong(f"status {ended.code} with {len(self.rows())} steps done")
            self.notes.append("outside of the loop")
        elif ended.code == STOPPED and self.newest() != len(self.rows()):
            raise Wrong(f"stopped with {len(self.rows())} steps done, saved is {self.newest()}")

    def goes_on(self) -> str:
        """Runs the same command to its end, which must be the straight run's."""
        before, ended = self.newest(), self.ended(self.start(), 0)
        if before and f"resuming at step {before}" not in ended.out:
            raise Wrong(f"it did not go on from step {before}: {_tail(ended)}")
        return self.is_same()

    def goes_on_or_refuses(self, *names: str) -> str:
        """The same, or one line that names what is wrong, with nothing overwritten."""
        before = contents(self.workdir) if self.workdir.exists() else {}
        ended = self.ended(self.start(), 0, 1)
        if ended.code == 0:
            return self.is_same()
        if changed := overwritten(before, self.workdir):
            raise Wrong(f"refused, but changed {changed[:3]}: {_tail(ended)}")
        if not any(name in ended.err for name in names):
            raise Wrong(f"none of {names} in its line: {_tail(ended)}")
        self.notes.append(ended.err.strip().splitlines()[-1])
        return REFUSED

    def is_same(self) -> str:
        """Wrong, unless the last run that ended with 0 left what the straight one did."""
        found = read_result(self.folder / f"said{self._starts}")
        wanted = self.straight.result
        if found.parameters != wanted.parameters:
            raise Wrong("other parameters than the straight run's")
        if self.compares_losses and found.losses != wanted.losses:
            raise Wrong(f"other losses: {len(found.losses)} rows of {len(wanted.losses)}")
        return SAME

    def rows(self) -> list[float]:
        """The losses in metrics.jsonl."""
        rows = read_metrics(self.workdir) if self.workdir.exists() else []
        return [row["values"]["loss"] for row in rows if row["kind"] == "train"]

    def newest(self) -> int:
        """The step of the newest checkpoint; 0 where there is none."""
        steps = (p.name for p in self.workdir.glob("checkpoints/*") if p.name.isdigit())
        return max(map(int, steps), default=0)

    def clean(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _tail(ended: Ended, characters: int = 700) -> str:
    return f"{ended.out[-200:]!r} {ended.err[-characters:]!r}"
