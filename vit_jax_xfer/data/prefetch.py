"""Runs row makers ahead of the training loop with grain: threads, worker processes, batches."""

import gc
import math
import weakref
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Batch = dict[str, np.ndarray]


class BatchStream(Iterator[Batch]):
    """An iterator of batches that works ahead in the background; close it, or use `with`.

    image_shape: (h, w, 3), the same for every image. After an error or the end every further call
    gives the same; after `close`, ValueError.
    """

    def __init__(self, dataset: Any, image_shape: tuple[int, int, int]):
        self.image_shape = image_shape
        self._batches = _iterate(dataset)
        # The next batch is joined while the caller uses this one.
        self._pool = ThreadPoolExecutor(1)
        self._pending = self._pool.submit(next, self._batches, None)
        # Runs at interpreter exit too, where grain's workers would complain if left to themselves.
        self._finalizer = weakref.finalize(self, _close, self._pool, self._batches)

    def __next__(self) -> Batch:
        if not self._finalizer.alive:
            raise ValueError("stream: it is closed")
        batch = self._pending.result()
        if batch is None:
            raise StopIteration
        self._pending = self._pool.submit(next, self._batches, None)
        return batch

    def close(self) -> None:
        """Stops the threads and worker processes; a second call does nothing."""
        self._finalizer()

    def __enter__(self) -> "BatchStream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _iterate(dataset: Any) -> Generator[Batch, None, None]:
    batches = iter(dataset)
    try:
        while (batch := next(batches, None)) is not None:
            yield batch
    finally:
        batches.close()
        # grain's iterators are reference cycles with a __del__ that fails noisily when it first
        # runs while the interpreter is torn down, even after close (0.2.18).
        del batches
        gc.collect()


def _close(pool: ThreadPoolExecutor, batches: Generator[Batch, None, None]) -> None:
    # In this order: a generator must not be closed while the thread is inside it.
    pool.shutdown(wait=True)
    batches.close()


def prefetch(
    make_rows: Callable[[int], Batch],
    groups: range,
    groups_per_batch: int,
    image_shape: tuple[int, int, int],
    *,
    workers: int,
    threads: int,
) -> BatchStream:
    """Calls make_rows(g) for g in `groups`, in order, and joins each `groups_per_batch` results.

    workers: processes (spawned: the caller's script needs `if __name__ == "__main__"`), 0 = none;
    threads: reading threads, in each process. Neither changes the result. Raises ValueError for
    negative counts.
    """
    import grain

    for name, count in (("workers", workers), ("threads", threads)):
        if count < 0:
            raise ValueError(f"{name}: got {count}, expected 0 or more")
    # One batch's worth of groups ahead, spread over the processes.
    ahead = max(threads, math.ceil(groups_per_batch / max(workers, 1)))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead if threads else 0)
    dataset = grain.MapDataset.range(groups.start, groups.stop).map(make_rows)
    dataset = dataset.to_iter_dataset(options)
    if workers:
        _mark_flags_parsed()
        dataset = dataset.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=ahead)
        )
    # After the workers, so that their number cannot change which rows share a batch.
    dataset = dataset.batch(groups_per_batch, batch_fn=_join)
    return BatchStream(dataset, image_shape)


def _join(groups: list[Batch]) -> Batch:
    if len(groups) == 1:
        return groups[0]
    return {key: np.concatenate([group[key] for group in groups]) for key in groups[0]}


def _mark_flags_parsed() -> None:
    # grain reads absl flags when it starts workers, which fails outside absl's app.run.
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
