"""The runs of a comparison, one after the other or beside each other; each is run once."""

import pathlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from typing import Any

from ml_collections import ConfigDict

from vit_jax_xfer.compare.arms import Arm, arm_named
from vit_jax_xfer.compare.comparison import Comparison
from vit_jax_xfer.compare.run_processes import InPlace, RunProcesses
from vit_jax_xfer.train.clock import format_duration
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.loop import run
from vit_jax_xfer.train.memory_end import OutOfMemory
from vit_jax_xfer.train.stopping import NonFiniteLoss, StopSignal
from vit_jax_xfer.train.workdir import changed_fields, read_result

_POLL = 0.5  # seconds between two looks at what runs

Result = dict[str, Any]
Train = Callable[[ConfigDict, pathlib.Path], Result]
# Paths of which a run itself tells whether the same lies there (train/moved_files.py).
_OF_WEIGHTS = ("task.teacher", "model.like", "init_from")


class Stopped(Exception):
    """A run was asked to stop, and saved; the same call goes on from there."""


def run_arms(
    comparison: Comparison,
    done: Callable[[dict[Arm, list[Result]]], None] = lambda results: None,
    train: Train = run,
    at_once: int = 1,
) -> tuple[dict[Arm, list[Result]], dict[str, str]]:
    """({arm: a result each seed}, {run that failed: why}), of which the second is mostly empty.

    A run whose loss is no number, or that runs out of memory, fails alone, with those that need its
    model. done: called with what there is after each run. at_once: runs beside each other, each by
    `train.loop.run` in a process of its own; `train` is for one after the other.
    Raises Stopped; ValueError, before anything runs, where a folder holds a run with other settings
    or an arm's config can't be made, and where so many can't run at once.
    """
    planned = list(comparison.runs())
    configs = {(arm, seed): comparison.config(arm, seed) for arm, seed in planned}
    for (arm, seed), config in configs.items():
        check_folder(config, arm.folder(comparison.root, seed))
    runs = _Runs(comparison, configs, done, at_once)
    if at_once == 1:
        runs.take(InPlace(), train)
        return runs.in_order(), runs.failed
    with (
        StopSignal() as stop,
        RunProcesses(at_once) as processes,
        ThreadPoolExecutor(at_once) as waiting,
    ):
        runs.take(waiting, processes.train, lambda: stop.requested(0), processes.stop)
    return runs.in_order(), runs.failed


class _Runs:
    """What is left to run, what runs, and what came of the rest."""

    def __init__(
        self,
        comparison: Comparison,
        configs: dict[tuple[Arm, int], ConfigDict],
        done: Callable[[dict[Arm, list[Result]]], None],
        at_once: int,
    ):
        self.failed: dict[str, str] = {}
        self._comparison, self._configs, self._done, self._at_once = (
            comparison, configs, done, at_once
        )  # fmt: skip
        self._results: dict[Arm, list[Result]] = {arm: [] for arm in comparison.arms}
        self._left, self._going = list(configs), dict[Future, tuple[Arm, int]]()
        self._begin = time.perf_counter()

    def in_order(self) -> dict[Arm, list[Result]]:
        """The results of each arm by their seeds."""
        return {
            arm: sorted(runs, key=lambda one: one["seed"]) for arm, runs in self._results.items()
        }

    def take(
        self,
        executor: Executor,
        train: Train,
        wanted: Callable[[], bool] = lambda: False,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        """Begins and awaits all runs. Raises Stopped once they have ended.

        wanted: whether to stop, asked often; stop: tells those that go on.
        """
        stopping = False
        try:
            while self._going or (self._left and not stopping):
                while not stopping and len(self._going) < self._at_once and (one := self._next()):
                    self._start(executor, train, *one)
                if not self._take_ended() or stopping or wanted():
                    stopping = True
                    stop()
        except BaseException:
            stop()  # else the executor waits for what goes on until that is trained
            raise
        if stopping:
            raise Stopped

    def _next(self) -> tuple[Arm, int] | None:
        """The first that is left and has the models that it needs; strikes out what can't.

        One of another task goes first while a task's programs are being compiled: a moment later
        its next run has them for nothing.
        """
        ready = list(self._ready())
        tasks = {one: config.task.name for one, config in self._configs.items()}
        compiled = {tasks[arm, run["seed"]] for arm, runs in self._results.items() for run in runs}
        compiling = {tasks[one] for one in self._going.values()} - compiled
        others = [one for one in ready if tasks[one] not in compiling]
        return next(iter([*others, *ready]), None)

    def _ready(self) -> Iterator[tuple[Arm, int]]:
        pending = {*self._left, *self._going.values()}
        for arm, seed in list(self._left):
            needed = _arms_before(self._comparison, arm)
            names = [one.folder(self._comparison.root, seed).name for one in needed]
            if lacking := next((name for name in names if name in self.failed), None):
                self._left.remove((arm, seed))
                name = arm.folder(self._comparison.root, seed).name
                self.failed[name] = f"it needs the model of {lacking}"
            elif not pending & {(one, seed) for one in needed}:
                yield arm, seed

    def _start(self, executor: Executor, train: Train, arm: Arm, seed: int) -> None:
        folder = arm.folder(self._comparison.root, seed)
        needed = _arms_before(self._comparison, arm)
        number = list(self._configs).index((arm, seed)) + 1
        detail = self._comparison.form(arm, seed)
        detail += f"  elapsed {format_duration(time.perf_counter() - self._begin)}"
        runs = [*self._going.values(), *self._left]
        if (left := seconds_left(runs, self._results)) is not None:
            detail += f"  ETA {format_duration(left / min(self._at_once, len(runs)))}"
        self._left.remove((arm, seed))
        future = executor.submit(
            run_or_read,
            self._configs[arm, seed],
            folder,
            f"{number} of {len(self._configs)}, {folder.name}",
            detail,
            [one.folder(self._comparison.root, seed) for one in needed],
            train,
        )
        self._going[future] = arm, seed

    def _take_ended(self) -> bool:
        """Takes what has ended, or does so in a moment; whether the others may go on."""
        ended, _ = wait(self._going, timeout=_POLL, return_when=FIRST_COMPLETED)
        return all([self._end(future) for future in ended])

    def _end(self, future: Future) -> bool:
        """Takes what came of a run; whether the others may go on."""
        arm, seed = self._going.pop(future)
        name = arm.folder(self._comparison.root, seed).name
        error = future.exception()
        if isinstance(error, NonFiniteLoss | OutOfMemory):
            # Through its traceback it would hold the run's arrays, which the next one has no room
            # for.
            error.__traceback__ = error.__cause__ = error.__context__ = None
            shared = isinstance(error, OutOfMemory) and self._at_once > 1
            self.failed[name] = f"{error}{'; --at-once 1 leaves each run more' if shared else ''}"
            say(f"{name} failed: {self.failed[name]}")
            return True
        if isinstance(error, BrokenExecutor):
            raise ValueError(
                f"{name}: its process was killed, perhaps for want of memory; the same command "
                "with --at-once 1 goes on from there"
            )
        result = future.result()
        if result is None:
            return False
        self._results[arm].append({**result, "seed": seed})
        self._done(self.in_order())
        return True


def run_or_read(
    config: ConfigDict,
    folder: pathlib.Path,
    name: str,
    detail: str,
    needed: Sequence[pathlib.Path] = (),
    train: Train = run,
) -> Result | None:
    """A run, or the result of an earlier one, with its seconds of work as "wall"; None if stopped.

    name, detail: said before it. needed: folders of runs whose models it takes; a result that is
    older than one of theirs is not read, nor one made with weights that lay elsewhere: going on
    from its last state, the run looks whether they are the same. ValueError where the folder holds
    a run with other settings.
    """
    moved = check_folder(config, folder)
    result = read_result(folder)
    if result is not None and not moved and not any(_newer(one, folder) for one in needed):
        say(f"--- {name}: finished already")
        return {**result, "wall": result["seconds"]}
    say(f"--- {name}: {detail}")
    begin = time.perf_counter()
    result = train(config, folder)
    if not result["finished"]:
        return None
    return {**result, "wall": time.perf_counter() - begin}


def check_folder(config: ConfigDict, folder: pathlib.Path) -> bool:
    """Whether a folder holds a run whose weights to begin or learn with lay elsewhere.

    ValueError where it holds one with other settings.
    """
    earlier = folder / "config.json"
    changed = changed_fields(earlier, config) if earlier.is_file() else []
    for name, text in changed:
        if name not in _OF_WEIGHTS:
            raise ValueError(
                f"{folder} was made with other arguments ({text}); repeat those, or choose another "
                "folder"
            )
    return bool(changed)


def seconds_left(
    planned: Sequence[tuple[Arm, int]], results: Mapping[Arm, Sequence[Result]]
) -> float | None:
    """An estimate for runs to come, by what the same arms took, else all; None before the first."""
    took = {
        arm: statistics.mean(one["wall"] for one in runs) for arm, runs in results.items() if runs
    }
    if not took:
        return None
    usual = statistics.mean(took.values())
    return sum(took.get(arm, usual) for arm, _ in planned)


def _arms_before(comparison: Comparison, arm: Arm) -> list[Arm]:
    """The arms whose models a run takes, of its seed."""
    return [arm_named(name, comparison.arms) for name in arm.kind.after]


def _newer(one: pathlib.Path, other: pathlib.Path) -> bool:
    """Whether a run has a result that is newer than another's."""
    first, second = (folder / "result.json" for folder in (one, other))
    return first.is_file() and first.stat().st_mtime > second.stat().st_mtime
