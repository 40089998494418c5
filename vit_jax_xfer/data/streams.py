"""Batches for training and evaluation.

Example k of a training stream is a function of (seed, k): which image, and every random draw of
its preparation. Nothing has to be saved to resume it, and neither the number of processes nor of
workers changes it.
"""

import math
import sys

from vit_jax_xfer.data.batch_layout import BatchLayout
from vit_jax_xfer.data.prefetch import BatchStream, prefetch
from vit_jax_xfer.data.row_maker import PositionRng, Rows, prepare
from vit_jax_xfer.data.sources import Source
from vit_jax_xfer.data.transforms import Pipeline, parse

_EVAL_SEED = 0


def train_stream(
    source: Source,
    pipeline: str | Pipeline,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    threads: int = 2,
) -> BatchStream:
    """An endless stream of shuffled batches, from batch `start_step` on.

    Yields {"image": float32 (b, h, w, 3), "label": int32 (b,)}, b = batch_size / process_count:
    this process's contiguous rows of the global batch. The order is new in each epoch; batches
    cross epochs, so the source may be smaller than a batch. Starting at a step costs nothing.
    workers: processes that prepare images (0: threads of this process only).
    Raises ValueError: sizes that don't divide, an empty source, images of different sizes.
    """
    import grain

    layout = BatchLayout(batch_size, process_index, process_count)
    _check(source, seed, start_step)
    order = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    rows = _rows(source, pipeline, layout, order, seed)
    per_batch = layout.groups_per_batch
    groups = range(start_step * per_batch, sys.maxsize // batch_size)
    return prefetch(rows, groups, per_batch, rows.image_shape, workers=workers, threads=threads)


def eval_batches(
    source: Source,
    pipeline: str | Pipeline,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    threads: int = 2,
) -> BatchStream:
    """Each example once, in order; the last batch is padded with zeros.

    Yields {"image": float32 (b, h, w, 3), "label": int32 (b,), "mask": bool (b,)}; the mask is
    False on padding. Every process yields `num_eval_batches(len(source), batch_size)` batches.
    Random ops draw the same numbers each time. Raises ValueError as `train_stream` does.
    """
    layout = BatchLayout(batch_size, process_index, process_count)
    _check(source, _EVAL_SEED, 0)
    rows = _rows(source, pipeline, layout, range(len(source)), _EVAL_SEED, stop=len(source))
    per_batch = layout.groups_per_batch
    groups = range(num_eval_batches(len(source), batch_size) * per_batch)
    return prefetch(rows, groups, per_batch, rows.image_shape, workers=workers, threads=threads)


def num_eval_batches(num_examples: int, batch_size: int) -> int:
    """How many batches of `batch_size` hold `num_examples`, the last one padded."""
    return math.ceil(num_examples / batch_size)


def _rows(source, pipeline, layout, indices, seed: int, stop: int | None = None) -> Rows:
    pipeline = parse(pipeline) if isinstance(pipeline, str) else pipeline
    # The stream's first example, on every process and at every start_step, fixes the image shape:
    # a pipeline that fails or gives changing sizes is found before the first step.
    first = prepare(source, pipeline, indices[0], PositionRng(seed).at(0))
    return Rows(source, pipeline, layout, indices, seed, first["image"].shape, stop)


def _check(source: Source, seed: int, start_step: int) -> None:
    if not len(source):
        raise ValueError(f"source: {source.name} is empty, expected at least one example")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: got {seed}, expected an integer from 0 to 2**32 - 1")
    if start_step < 0:
        raise ValueError(f"start_step: got {start_step}, expected 0 or more")
