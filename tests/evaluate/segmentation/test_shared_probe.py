"""Processes that share a probe's training images: threads stand for them."""

import concurrent.futures
import threading

import numpy as np
import pytest
from known_extractors import KnownExtractor
from PIL import Image

from vit_jax_xfer.evaluate.benchmark import Together, parts_of
from vit_jax_xfer.evaluate.segmentation import training_set
from vit_jax_xfer.evaluate.segmentation.segmentation_benchmark import open_segmentation

NUMBER = 2


class StoppedTogether(Exception):
    """What all raise at the same report."""


@pytest.fixture
def benchmark(tmp_path):
    """Five images to train on and three to score, of 16 pixels and two classes."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 5), ("val", 3)):
        for i in range(number):
            photo = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            mask = np.where(photo[..., 0] > 128, 9, 40).astype(np.uint8)
            for kind, picture in (("i", photo), ("m", mask)):
                (tmp_path / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture).save(tmp_path / kind / split / f"{i}.png")
    return open_segmentation(f"masks:{tmp_path}/i:{tmp_path}/m", 16, steps=3)


def extractor():
    return KnownExtractor(lambda means: means, patch=4)


def measured(benchmark, stop_at=None):
    """Each process's outcomes, or its error, and how often it reported."""
    slots, barrier = [None] * NUMBER, threading.Barrier(NUMBER, timeout=300)

    def process(index):
        def exchange(thing):
            slots[index] = thing
            barrier.wait()
            found = list(slots)
            barrier.wait()
            return found

        def report(done, total):
            reports.append(done)
            if len(reports) == stop_at:
                raise StoppedTogether

        reports = []
        shared = benchmark.among(Together(index, NUMBER, exchange))
        part = parts_of(shared, NUMBER)[index]
        try:
            found = shared.outcomes(extractor(), part, report)
        except Exception as error:
            found = error
        else:
            assert len(reports) == shared.reports(part)
        return found, len(reports)

    with concurrent.futures.ThreadPoolExecutor(NUMBER) as pool:
        return list(pool.map(process, range(NUMBER)))


def test_each_computes_its_share_and_all_train_the_same_probe(benchmark, monkeypatch):
    read, real = [], training_set.read_squashed
    with monkeypatch.context() as patch:
        patch.setattr(
            training_set, "read_squashed", lambda *given: read.append(given[0].name) or real(*given)
        )
        (first, _), (second, _) = measured(benchmark)
    assert sorted(read) == [f"{i}.png" for i in range(5)]  # each once
    wanted = benchmark.outcomes(extractor(), range(3))
    np.testing.assert_array_equal(first + second, wanted)
    assert len(first) and len(second)


def test_a_broken_image_of_one_is_an_error_of_all(benchmark):
    benchmark.data.train[3].image.write_bytes(b"no picture")
    for found, _ in measured(benchmark):
        assert isinstance(found, ValueError) and "3.png" in str(found)


@pytest.mark.parametrize("stop_at", [2, 5])  # among the images, and in the probe's steps
def test_all_leave_it_at_the_same_report(benchmark, stop_at):
    for found, reports in measured(benchmark, stop_at):
        assert isinstance(found, StoppedTogether) and reports == stop_at
