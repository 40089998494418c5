"""Processes that make rows for this one, each beside an interpreter that knows nothing of JAX.

A worker is a plain child with a socket to its parent and an anonymous piece of shared memory that
its rows are written to. So nothing of it lies in /dev/shm or anywhere else by name, and nothing of
it outlives the two. It takes no notice of what a scheduler or a terminal sends to a whole group
(`GROUP_SIGNALS`): the parent ends its workers, and when it is gone the socket's end says so.
"""

import contextlib
import mmap
import os
import pathlib
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection

import numpy as np

from vit_jax_xfer.data.row_maker import MadeRows, RowGroup, Rows, make_patiently
from vit_jax_xfer.data.shared_arrays import Handed, nameless_file, received
from vit_jax_xfer.stop_signals import WARNINGS

# A stop, Ctrl-C, and what tells of an end to come (`WARNINGS`): at each the parent saves, and needs
# its batches.
GROUP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, *WARNINGS})

_ALIGNMENT = 64  # bytes
_WAIT = 5.0  # seconds, for a process that has closed its socket to be gone


class WorkerProcesses(Iterator[MadeRows]):
    """Rows of groups, in order: group k is made by worker k modulo their number.

    Each has up to `ahead` groups of rows_per_group rows in work, and `threads` threads. The arrays
    of a group hold until the next is asked for. ChildProcessError, one line, for a worker that
    ended by itself; its cause is most often the memory of the machine.
    """

    def __init__(
        self,
        rows: Rows,
        groups: Iterator[RowGroup],
        rows_per_group: int,
        *,
        workers: int,
        threads: int,
        ahead: int,
    ):
        self._groups = groups
        self._start = (rows, threads, rows_per_group, ahead + 1)
        self._taken: tuple[_Worker, int] | None = None
        self._workers: list[_Worker] = []
        try:
            for number in range(workers):
                self._workers.append(_Worker(f"worker {number + 1} of {workers}", *self._start))
        except OSError as error:
            self.close(wait=True)
            raise OSError(
                f"data.workers: {workers} processes with shared memory can't be started: {error}"
            ) from error
        self._asked: deque[tuple[_Worker, int]] = deque()  # workers and slots, in order of groups
        self._begun = False

    def __next__(self) -> MadeRows:
        if not self._begun:
            self._begin()
        if self._taken is not None:
            self._ask(*self._taken)
            self._taken = None
        if not self._asked:
            raise StopIteration
        worker, slot = self._asked.popleft()
        made = worker.receive(slot)
        self._taken = worker, slot
        return made

    def _begin(self) -> None:
        # Not in __init__: it is the thread of the stream that waits until they have all imported.
        task = Handed(self._start)
        with contextlib.closing(task):
            for worker in self._workers:
                worker.hand(task)
        for slot in range(self._start[-1]):
            for worker in self._workers:
                self._ask(worker, slot)
        self._begun = True

    def _ask(self, worker: "_Worker", slot: int) -> None:
        group = next(self._groups, None)
        if group is not None:
            worker.send((slot, group))
            self._asked.append((worker, slot))

    def close(self, wait: bool) -> None:
        """Kills the workers, which have nothing to lose; with `wait`, until they are gone."""
        for worker in self._workers:
            worker.process.kill()
        if wait:
            for worker in self._workers:
                worker.close()


class _Worker:
    """A started process, as its parent sees it."""

    def __init__(self, name: str, rows: Rows, threads: int, rows_per_group: int, slots: int):
        self.name = name
        slot_bytes = sum(_padded(x.nbytes) for x in rows.empty(rows_per_group).values())
        memory = nameless_file(slots * slot_bytes)
        ours, theirs = socket.socketpair()
        with memory, theirs:
            self._slots = _slots(memory.fileno(), rows, rows_per_group, slots)
            self._connection = Connection(ours.detach())
            inherited = theirs.fileno(), memory.fileno()
            with _signals_held():
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _code(*inherited)],
                    pass_fds=inherited,
                    stdin=subprocess.DEVNULL,
                )

    def send(self, message: object) -> None:
        try:
            self._connection.send(message)
        except OSError as error:
            raise self._ended() from error

    def hand(self, task: Handed) -> None:
        try:
            task.send(self._connection)
        except OSError as error:
            raise self._ended() from error

    def receive(self, slot: int) -> MadeRows:
        """The rows of the group that is the next to come; raises what was raised there."""
        try:
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            raise self._ended() from error
        if isinstance(answer, BaseException):
            raise answer
        return MadeRows(self._slots[slot], answer)

    def close(self) -> None:
        self.process.wait()
        self._connection.close()
        self._slots = []

    def _ended(self) -> ChildProcessError:
        try:
            code = self.process.wait(_WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return ChildProcessError(f"data.workers: {self.name} closed its connection")
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        why = _CAUSES.get(-code, "a fault in a library that decodes images, most often")
        return ChildProcessError(f"data.workers: {self.name} was ended {how}: {why}")


_CAUSES = {
    signal.SIGKILL: (
        "out of memory, most often; data.workers uses less where it is smaller, or a batch is"
    ),
    signal.SIGBUS: "no room was left for shared memory, or a file shrank while it was read",
}


def serve(control: int, memory: int) -> None:
    """A worker's whole life: groups come by one descriptor, rows go to the memory of another.

    It ends with its parent, whatever ended that.
    """
    for number in GROUP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    # Where memory is used up, Linux kills this process rather than its parent, which has a state.
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/oom_score_adj").write_text("500")
    connection = Connection(control)
    try:
        try:
            rows, threads, rows_per_group, slots = received(connection)
            views = _slots(memory, rows, rows_per_group, slots)
        except (EOFError, OSError):
            raise
        except Exception as error:
            connection.send(_sendable(error))
            while True:  # the parent reads it before it sends its last word
                connection.recv_bytes()
        waiting: queue.SimpleQueue[tuple[int, Future[MadeRows]]] = queue.SimpleQueue()
        answers = threading.Thread(target=_answer, args=(connection, waiting, views), daemon=True)
        answers.start()
        pool = ThreadPoolExecutor(max(threads, 1))
        never = threading.Event()  # a worker that isn't wanted is killed
        while True:
            slot, group = connection.recv()
            waiting.put((slot, pool.submit(make_patiently, rows, group, never)))
    except (EOFError, OSError):
        os._exit(0)  # not sys.exit, which would wait for images that nobody wants


def _answer(
    connection: Connection,
    waiting: "queue.SimpleQueue[tuple[int, Future[MadeRows]]]",
    views: list[dict[str, np.ndarray]],
) -> None:
    """Sends, in order, what could not be read of each group, once its rows are in their slot."""
    while True:
        slot, future = waiting.get()
        try:
            made = future.result()
            for name, view in views[slot].items():
                view[...] = made.arrays[name]
            answer: object = made.broken
        except Exception as error:
            answer = _sendable(error)
        try:
            connection.send(answer)
        except OSError:
            os._exit(0)


def _sendable(error: Exception) -> Exception:
    """The error, with where it was raised as a note; its text alone where it can't be pickled."""
    where = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(f"in a worker process:\n{where}")
    return error


def _code(control: int, memory: int) -> str:
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return (
        f"import sys; sys.path[:] = {path!r}; "
        f"from {__name__} import serve; serve({control}, {memory})"
    )


def _slots(memory: int, rows: Rows, rows_per_group: int, slots: int) -> list[dict[str, np.ndarray]]:
    """The arrays of a group, in each of the places that a shared memory has for one."""
    like = rows.empty(rows_per_group)
    length = slots * sum(_padded(array.nbytes) for array in like.values())
    mapped = mmap.mmap(memory, length)
    places, offset = [], 0
    for _ in range(slots):
        views = {}
        for name, array in like.items():
            views[name] = np.ndarray(array.shape, array.dtype, mapped, offset)
            offset += _padded(array.nbytes)
        places.append(views)
    return places


def _padded(number: int) -> int:
    return -(-number // _ALIGNMENT) * _ALIGNMENT


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Within it this thread takes none of `GROUP_SIGNALS`, nor do processes started in it.

    A child would else be open to them until it runs a line of ours.
    """
    held = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
