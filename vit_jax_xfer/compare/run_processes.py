"""Processes that train runs of a comparison beside each other, each on processors of its own.

Small networks leave most of a CPU idle: a step of theirs is many small operations, which more cores
do not make faster. Runs beside each other use them.
"""

import contextlib
import multiprocessing
import os
import pathlib
import signal
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

import jax
from ml_collections import ConfigDict

from vit_jax_xfer.compare.compiled_once import cache_settings, use_cache
from vit_jax_xfer.pretrained.loading_notes import notes_on_stderr
from vit_jax_xfer.terminal import lines_begin_with
from vit_jax_xfer.train.loop import run

_MOST = 4  # runs beside each other, unless more are asked for
_AGAIN = 1.0  # seconds between two requests to stop
_stopping = False  # in a process of the pool: whether it was asked to stop


def usual_number() -> int:
    """How many runs of small networks go beside each other here; 1 where JAX has a device."""
    return min(_MOST, len(_processors())) if jax.default_backend() == "cpu" else 1


class InPlace(Executor):
    """What is submitted runs here and now: a comparison's runs one after the other."""

    def submit(self, function: Any, /, *given: Any, **named: Any) -> Future:
        """The future of a call that is over."""
        future: Future = Future()
        try:
            future.set_result(function(*given, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class RunProcesses:
    """Context of `number` processes, in which runs are trained.

    A process that the context's own leaves behind, however that ends, saves its run and ends.
    ValueError where the machine has fewer processors, or where JAX would compute on a device, which
    is for one process at a time.
    """

    def __init__(self, number: int):
        cores = _shares(number)
        spawn = multiprocessing.get_context("spawn")
        given = spawn.SimpleQueue()
        for share in cores:
            given.put(share)
        told, self._tell = spawn.Pipe(duplex=False)
        given_all = (given, told, cache_settings())
        self._pool = ProcessPoolExecutor(number, spawn, _begin, given_all)

    def __enter__(self) -> "RunProcesses":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        self._pool.shutdown(cancel_futures=True)

    def train(self, config: ConfigDict, folder: pathlib.Path) -> dict[str, Any]:
        """As `train.loop.run`, from any thread; the run's lines begin with its folder's name."""
        return self._pool.submit(_train, config, folder).result()

    def stop(self) -> None:
        """Asks all runs to stop, which save themselves: unfinished results then."""
        self._tell.close()


def _shares(number: int) -> list[tuple[int, ...]]:
    """The processors of each of `number` processes; as many for each as go."""
    if jax.default_backend() != "cpu":
        raise ValueError(
            f"--at-once: {number} runs can't share the {jax.default_backend()}; give --at-once 1"
        )
    cores = _processors()
    if number > len(cores):
        raise ValueError(f"--at-once: {number} runs need as many processors, and {len(cores)} are "
                         "to be had")  # fmt: skip
    if not hasattr(os, "sched_setaffinity"):  # macOS: the system shares them out
        return [()] * number
    share = len(cores) // number
    return [tuple(cores[i * share : (i + 1) * share]) for i in range(number)]


def _processors() -> list[int]:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _begin(given: Any, told: Connection, settings: dict[str, Any]) -> None:
    """Of a process: before JAX counts processors, and before its first run."""
    if cores := given.get():
        os.sched_setaffinity(0, cores)
    use_cache(settings)
    # Between runs the pool alone says when this process ends; a run hears signals itself.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_stop_when_told, args=(told,), daemon=True).start()


def _stop_when_told(told: Connection) -> None:
    """Asks this process's run to stop once the other end is closed, as when that process died."""
    global _stopping
    with contextlib.suppress(EOFError, OSError):
        told.recv()
    _stopping = True
    while True:  # again, since a run that is about to begin doesn't hear the first
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_AGAIN)
        if _is_left_alone() and signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:
            os._exit(1)  # no run goes on, and nobody is there to begin another


def _is_left_alone() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _train(config: ConfigDict, folder: pathlib.Path) -> dict[str, Any]:
    if _stopping:
        return {"finished": False}
    with notes_on_stderr(), lines_begin_with(f"{folder.name}: "):
        return run(config, folder)
