"""Makes rows ahead of the training loop, in threads or in worker processes, and joins batches."""

import collections
import math
import threading
import weakref
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from vit_jax_xfer.data.broken_images import check_broken
from vit_jax_xfer.data.row_maker import MadeRows, RowGroup, Rows, make_patiently
from vit_jax_xfer.data.worker_processes import WorkerProcesses

Batch = dict[str, np.ndarray]
_JOINED = 2  # batches that lie ready, so that one that took longer is made up for


class BatchStream(Iterator[Batch]):
    """An iterator of batches that works ahead in the background; close it, or use `with`.

    image_shape: (h, w, 3), the same for every image. broken: the images of the batches so far that
    can't be read, name → reason. TooManyBroken with the batch in which they are more than allowed.
    After an error or the end every further call gives the same; after `close`, ValueError.
    """

    def __init__(self, rows: Rows, made: "WorkerProcesses | _Threads", groups_per_batch: int):
        self.image_shape = rows.image_shape
        self.broken: dict[str, str] = {}
        self._max_broken = rows.max_broken
        self._batches = _batches(rows, made, groups_per_batch)
        # The next batches are joined while the caller uses this one.
        self._pool = ThreadPoolExecutor(1)
        self._pending = collections.deque(self._following() for _ in range(_JOINED))
        # Runs at interpreter exit too.
        self._finalizer = weakref.finalize(self, _close, self._pool, made)

    def __next__(self) -> Batch:
        if not self._finalizer.alive:
            raise ValueError("stream: it is closed")
        joined = self._pending[0].result()
        if joined is None:
            raise StopIteration
        batch, broken = joined
        known = self.broken | broken
        check_broken(known, self._max_broken)
        self.broken = known
        self._pending.popleft()
        self._pending.append(self._following())
        return batch

    def _following(self) -> "Future[tuple[Batch, dict[str, str]] | None]":
        return self._pool.submit(next, self._batches, None)

    def close(self) -> None:
        """Ends threads and worker processes; a second call does nothing."""
        self._finalizer()

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def prefetch(
    rows: Rows,
    groups: Iterator[RowGroup],
    rows_per_group: int,
    groups_per_batch: int,
    *,
    workers: int,
    threads: int,
) -> BatchStream:
    """Makes the rows of groups, in order, and joins each `groups_per_batch` of them.

    workers: processes (0: threads of this one); threads: reading threads, in each process. Neither
    changes the result. Raises ValueError for negative counts.
    """
    for name, count in (("workers", workers), ("threads", threads)):
        if count < 0:
            raise ValueError(f"{name}: got {count}, expected 0 or more")
    # One batch's worth of groups ahead, spread over the processes.
    ahead = max(threads, math.ceil(groups_per_batch / max(workers, 1)))
    if workers:
        made = WorkerProcesses(
            rows, groups, rows_per_group, workers=workers, threads=threads, ahead=ahead
        )
    else:
        made = _Threads(rows, groups, threads, ahead)
    return BatchStream(rows, made, groups_per_batch)


class _Threads(Iterator[MadeRows]):
    """Rows of groups, in order, made by threads of this process, or in the call itself without."""

    def __init__(self, rows: Rows, groups: Iterator[RowGroup], threads: int, ahead: int):
        self._rows, self._groups = rows, groups
        self._pool = ThreadPoolExecutor(threads) if threads else None
        self._ahead = ahead
        self._pending: collections.deque[Future[MadeRows]] = collections.deque()
        self._closing = threading.Event()

    def __next__(self) -> MadeRows:
        if self._pool is None:
            return self._make(next(self._groups))
        while len(self._pending) < self._ahead and (group := next(self._groups, None)) is not None:
            self._pending.append(self._pool.submit(self._make, group))
        if not self._pending:
            raise StopIteration
        return self._pending.popleft().result()

    def _make(self, group: RowGroup) -> MadeRows:
        return make_patiently(self._rows, group, self._closing)

    def close(self, wait: bool) -> None:
        """Ends what works ahead; with `wait`, blocks until nothing of it is left."""
        self._closing.set()
        if self._pool is not None:
            self._pool.shutdown(wait=wait, cancel_futures=True)


def _batches(
    rows: Rows, made: Iterator[MadeRows], groups_per_batch: int
) -> Generator[tuple[Batch, dict[str, str]], None, None]:
    """Batches, each with what could not be read of it."""
    while True:
        batch: Batch = {}
        broken: dict[str, str] = {}
        for part in range(groups_per_batch):
            group = next(made, None)
            if group is None:
                return
            size = len(group.arrays["label"])
            batch = batch or rows.empty(size * groups_per_batch)
            for name, array in group.arrays.items():
                batch[name][part * size : (part + 1) * size] = array
            broken |= group.broken
        yield batch, broken


def _close(pool: ThreadPoolExecutor, made: "WorkerProcesses | _Threads") -> None:
    # First what is worked on: the joining thread may be waiting for it.
    made.close(wait=False)
    pool.shutdown(wait=True, cancel_futures=True)
    made.close(wait=True)
