"""Repeated augmentation: the published sampler's images, on any processes, from any step."""

import collections

import numpy as np
import pytest

from vit_jax_xfer.data import train_stream
from vit_jax_xfer.data.repeated_order import RepeatedOrder
from vit_jax_xfer.data.sources.arrays import ArraySource

SIZE, BATCH, PARTS = 50, 24, 4
# Epochs' orders one after the other, which any sequence may be.
ORDERS = [np.random.default_rng(epoch).permutation(SIZE) for epoch in range(3)]


def published_batches(order, repeats=3, gpus=PARTS):
    """An epoch's batches by DeiT's sampler: each GPU takes every so-manieth entry of a list."""
    entries = [int(index) for index in order for _ in range(repeats)]
    a_gpu = BATCH // gpus
    for batch in range(SIZE // BATCH):
        rows = [entries[gpu::gpus][batch * a_gpu : (batch + 1) * a_gpu] for gpu in range(gpus)]
        yield sum(rows, [])


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_the_order_is_that_of_the_published_sampler(repeats):
    order = RepeatedOrder(np.concatenate(ORDERS), SIZE, BATCH, repeats, PARTS)
    wanted = [batch for one in ORDERS for batch in published_batches(one, repeats)]
    assert [order[i] for i in range(len(wanted) * BATCH)] == sum(wanted, [])


def test_copies_lie_in_different_parts_of_one_batch():
    order = RepeatedOrder(np.concatenate(ORDERS), SIZE, BATCH, 3, PARTS)
    rows = [order[i] for i in range(BATCH)]
    assert set(collections.Counter(rows).values()) == {3}
    parts = np.reshape(rows, (PARTS, -1))
    assert all(len(set(part)) == len(part) for part in parts.tolist())


def test_a_source_smaller_than_a_batch():
    order = RepeatedOrder(range(1000), 3, BATCH, 2, 1)
    assert set(order[i] for i in range(BATCH)) == {0, 1, 2}
    assert set(order[BATCH + i] for i in range(BATCH)) == {3, 4, 5}


@pytest.mark.parametrize(
    ("repeats", "parts", "message"),
    [(0, 1, "repeats: got 0, expected from 1"), (25, 1, "repeats: got 25"), (3, 5, "parts: got 5")],
)
def test_sizes_that_do_not_fit(repeats, parts, message):
    with pytest.raises(ValueError, match=message):
        RepeatedOrder(range(SIZE), SIZE, BATCH, repeats, parts)


def take(count, source, start=0, **place):
    given = {"batch_size": BATCH, "seed": 3, "repeats": 3, "parts": PARTS, "start_step": start}
    with train_stream(source, "random_crop(8, padding=2)|normalize", **given, **place) as stream:
        return [next(stream) for _ in range(count)]


def test_a_stream_is_the_same_from_any_step_and_on_two_processes():
    images = np.random.default_rng(0).integers(0, 256, (SIZE, 8, 8, 3), np.uint8)
    source = ArraySource(images, np.arange(SIZE), tuple(map(str, range(SIZE))), "numbers")
    whole = take(4, source)
    halves = [take(4, source, process_index=i, process_count=2) for i in range(2)]
    for step, batch in enumerate(whole):
        later = take(1, source, start=step)[0]
        for name, rows in batch.items():
            np.testing.assert_array_equal(later[name], rows)
            joined = np.concatenate([half[step][name] for half in halves])
            np.testing.assert_array_equal(joined, rows)
        counts = collections.Counter(batch["label"].tolist())
        assert set(counts.values()) == {3}
        copies = batch["image"][batch["label"] == batch["label"][0]]
        assert len(np.unique(copies.reshape(3, -1), axis=0)) > 1  # prepared anew
    assert set(whole[0]["label"]) & set(whole[1]["label"]) == set()
