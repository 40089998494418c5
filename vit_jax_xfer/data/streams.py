"""Batches for training and evaluation.

Example k of a training stream is a function of (seed, k): which image, and every random draw of
its preparation. Nothing has to be saved to resume it, and neither the number of processes nor of
workers changes it.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from vit_jax_xfer.data.batch_layout import BatchLayout
from vit_jax_xfer.data.prefetch import BatchStream, prefetch
from vit_jax_xfer.data.repeated_order import RepeatedOrder
from vit_jax_xfer.data.row_maker import FIRST, PositionRng, RowGroup, Rows, first_arrays
from vit_jax_xfer.data.shuffled_order import ShuffledOrder
from vit_jax_xfer.data.sources import Source
from vit_jax_xfer.data.sources.source import check_targets
from vit_jax_xfer.data.target_arrays import TargetForm
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
    max_broken: int = 0,
    repeats: int = 1,
    parts: int = 1,
    in_bytes: bool = False,
    draft: bool = False,
    targets: TargetForm | None = None,
) -> BatchStream:
    """An endless stream of shuffled batches, from batch `start_step` on.

    Yields {"image": float32 (b, h, w, 3), "label": int32 (b,)}, b = batch_size / process_count:
    this process's contiguous rows of the global batch. The order is new in each epoch; batches
    cross epochs, so the source may be smaller than a batch. Starting at a step costs nothing.
    workers: processes that prepare images (0: threads of this process only).
    max_broken: so many images may be such that they can't be read (`stream.broken`); in the place
    of each comes another, which is a function of (seed, k) too; one more is TooManyBroken.
    repeats: each image so many times in a batch, dealt out among its `parts` (RepeatedOrder).
    in_bytes: images are uint8, a quarter of the memory, as the pipeline leaves them to a
    `finish.Finish` on the device, with its draws beside them.
    draft: JPEGs are decoded at a half, quarter or eighth of their size where the box of a
    random_resized_crop that comes first still has as many pixels as it is resized to. Faster, and
    not the same pixels.
    targets: the arrays of boxes, masks or maps of classes that stand beside the images.
    Raises ValueError: sizes that don't divide, an empty source, images of different sizes.
    """
    layout = BatchLayout(batch_size, process_index, process_count)
    _check(source, seed, start_step)
    order = ShuffledOrder(len(source), seed)
    if repeats != 1:
        order = RepeatedOrder(order, len(source), batch_size, repeats, parts)
    pipeline = _parsed(pipeline, in_bytes, source, targets)
    rows = _rows(source, pipeline, order, seed, masked=False, max_broken=max_broken, draft=draft)
    groups = _groups(layout, order, itertools.count(start_step * layout.groups_per_batch))
    return _stream(rows, groups, layout, workers, threads)


def eval_batches(
    source: Source,
    pipeline: str | Pipeline,
    *,
    batch_size: int,
    process_index: int = 0,
    process_count: int = 1,
    workers: int = 0,
    threads: int = 2,
    max_broken: int = 0,
    in_bytes: bool = False,
    targets: TargetForm | None = None,
) -> BatchStream:
    """Each example once, in order; the last batch is padded with zeros.

    Yields {"image": float32 (b, h, w, 3), "label": int32 (b,), "mask": bool (b,)}; the mask is
    False on padding. Every process yields `num_eval_batches(len(source), batch_size)` batches.
    Random ops draw the same numbers each time. max_broken: as for `train_stream`, but an image that
    can't be read is masked out. in_bytes, targets: as there; with targets there is "index" too,
    int32 (b,), which of the source's examples it is, and the pipeline must show whole photographs.
    Raises ValueError as `train_stream` does.
    """
    layout = BatchLayout(batch_size, process_index, process_count)
    _check(source, _EVAL_SEED, 0)
    order = range(len(source))
    targets = dataclasses.replace(targets, whole=True) if targets else None
    pipeline = _parsed(pipeline, in_bytes, source, targets)
    rows = _rows(source, pipeline, order, _EVAL_SEED, masked=True, max_broken=max_broken)
    numbers = range(num_eval_batches(len(source), batch_size) * layout.groups_per_batch)
    groups = _groups(layout, order, iter(numbers), stop=len(source))
    return _stream(rows, groups, layout, workers, threads)


def num_eval_batches(num_examples: int, batch_size: int) -> int:
    """How many batches of `batch_size` hold `num_examples`, the last one padded."""
    return math.ceil(num_examples / batch_size)


def _stream(
    rows: Rows, groups: Iterator[RowGroup], layout: BatchLayout, workers: int, threads: int
) -> BatchStream:
    sizes = layout.rows_per_group, layout.groups_per_batch
    return prefetch(rows, groups, *sizes, workers=workers, threads=threads)


def _groups(
    layout: BatchLayout, order: Sequence[int], numbers: Iterator[int], stop: int | None = None
) -> Iterator[RowGroup]:
    """Groups by number; order[position] is a source's index, from `stop` on there is padding."""
    for number in numbers:
        positions = layout.positions(number)
        last = positions.stop if stop is None else min(positions.stop, stop)
        yield RowGroup(positions, [int(order[i]) for i in range(positions.start, last)])


def _parsed(
    pipeline: str | Pipeline, in_bytes: bool, source: Source, targets: TargetForm | None
) -> Pipeline:
    parsed = parse(pipeline) if isinstance(pipeline, str) else pipeline
    if targets is not None:
        check_targets(source, targets)
        parsed = dataclasses.replace(parsed, form=targets)
    return parsed.in_bytes() if in_bytes else parsed


def _rows(
    source: Source,
    pipeline: Pipeline,
    order: Sequence[int],
    seed: int,
    masked: bool,
    max_broken: int,
    draft: bool = False,
) -> Rows:
    # The stream's first example, on every process and at every start_step, fixes the image shape:
    # a pipeline that fails or gives changing sizes is found before the first step.
    first = [int(order[i]) for i in range(min(len(source), FIRST))]
    arrays = first_arrays(source, pipeline, first, PositionRng(seed).at(0))
    return Rows(source, pipeline, seed, arrays, masked, max_broken, draft)


def _check(source: Source, seed: int, start_step: int) -> None:
    if not len(source):
        raise ValueError(f"source: {source.name} is empty, expected at least one example")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed: got {seed}, expected an integer from 0 to 2**32 - 1")
    if start_step < 0:
        raise ValueError(f"start_step: got {start_step}, expected 0 or more")
