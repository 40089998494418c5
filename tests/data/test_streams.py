"""Streams: a function of (seed, step), whatever the processes, workers, threads and start."""

import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.data import eval_batches, num_eval_batches, open_source, train_stream
from vit_jax_xfer.data.batch_layout import BatchLayout
from vit_jax_xfer.data.sources.arrays import ArraySource

PIPELINE = "random_crop(8, padding=1)|flip|normalize(0.5, 0.5)"


class Numbered:
    """Image i is full of i and has label i: says which examples a batch holds."""

    num_classes, class_names, name = 0, (), "numbered"

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if not 0 <= index < self.size:
            raise IndexError(index)
        return {"image": np.full((2, 2, 3), index, np.uint8), "label": index}


@pytest.fixture(scope="module")
def digits():
    return open_source("digits")


def take(count, source, pipeline=PIPELINE, **arguments):
    with train_stream(source, pipeline, **{"batch_size": 12, "seed": 3} | arguments) as stream:
        return [next(stream) for _ in range(count)]


def assert_same(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_batches(digits):
    with train_stream(digits, PIPELINE, batch_size=12, seed=3) as stream:
        assert iter(stream) is stream and stream.image_shape == (8, 8, 3)
        batch = next(stream)
    assert batch["image"].shape == (12, 8, 8, 3) and batch["image"].dtype == np.float32
    assert batch["label"].shape == (12,) and batch["label"].dtype == np.int32
    assert batch.keys() == {"image", "label"}


def test_seed_and_step_decide(digits):
    straight = take(6, digits)
    assert_same(straight, take(6, digits))
    assert_same(straight[4:], take(2, digits, start_step=4))
    other = take(1, digits, seed=4)[0]
    assert not np.array_equal(other["label"], straight[0]["label"])


def test_start_far_away(digits):
    step = 10**9
    assert_same(take(2, digits, start_step=step)[1:], take(1, digits, start_step=step + 1))


@pytest.mark.parametrize("threads", [0, 1, 5])
def test_threads_do_not_matter(digits, threads):
    large = {"batch_size": 70}
    assert_same(take(5, digits, **large), take(5, digits, threads=threads, **large))


def test_worker_processes_do_not_matter(digits):
    expected = take(5, digits, batch_size=70)
    assert_same(expected, take(5, digits, batch_size=70, workers=1))
    resumed = take(2, digits, batch_size=70, workers=2, start_step=3)
    assert_same(expected[3:], resumed)


@pytest.mark.parametrize("count", [2, 4])
def test_processes_split_the_same_batches(digits, count):
    whole = take(3, digits)
    parts = [take(3, digits, process_index=i, process_count=count) for i in range(count)]
    for step, batch in enumerate(whole):
        for key in batch:
            joined = np.concatenate([part[step][key] for part in parts])
            np.testing.assert_array_equal(joined, batch[key])


def test_each_epoch_has_every_example_in_a_new_order():
    batches = take(10, Numbered(6), "to_float", batch_size=3)
    epochs = np.concatenate([batch["label"] for batch in batches]).reshape(5, 6)
    assert (np.sort(epochs) == np.arange(6)).all()
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_source_smaller_than_a_batch():
    for size in (1, 5):
        batches = take(2, Numbered(size), "to_float", batch_size=7)
        labels = np.concatenate([batch["label"] for batch in batches])
        whole = labels[: len(labels) // size * size].reshape(-1, size)
        assert (np.sort(whole) == np.arange(size)).all()


def test_augmentation_differs_between_epochs():
    source = ArraySource(
        np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8), np.zeros(1), ("a",), "x"
    )
    batch = take(1, source, batch_size=30)[0]
    assert len({image.tobytes() for image in batch["image"]}) > 5


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (8, 4), (3, 8), (100, 80)])
def test_eval_covers_each_example_once(size, batch_size, count):
    seen = []
    for index in range(count):
        with eval_batches(
            Numbered(size),
            "to_float",
            batch_size=batch_size,
            process_index=index,
            process_count=count,
        ) as stream:
            batches = list(stream)
        assert len(batches) == num_eval_batches(size, batch_size)
        for batch in batches:
            assert batch["image"].shape == (batch_size // count, 2, 2, 3)
            assert batch["mask"].dtype == np.bool_ and batch["label"].dtype == np.int32
            assert not batch["image"][~batch["mask"]].any()
            np.testing.assert_allclose(batch["image"][:, 0, 0, 0] * 255, batch["label"], atol=1e-4)
        seen.append(batches)
    order = [
        label
        for step in range(len(seen[0]))
        for part in seen
        for label in part[step]["label"][part[step]["mask"]]
    ]
    assert order == list(range(size))


def test_eval_with_workers(digits):
    arguments = {"batch_size": 400}
    with eval_batches(digits, "normalize", **arguments) as stream:
        expected = list(stream)
    with eval_batches(digits, "normalize", workers=2, **arguments) as stream:
        assert_same(expected, list(stream))


def test_layout_groups():
    assert [BatchLayout(b, 0, 1).groups_per_batch for b in (1, 32, 33, 96, 1024, 37)] == [
        1,
        1,
        3,
        3,
        32,
        37,
    ]
    layout = BatchLayout(256, 1, 2)
    rows = [p for group in range(2 * layout.groups_per_batch) for p in layout.positions(group)]
    assert rows == [*range(128, 256), *range(384, 512)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"process_count": 5}, "batch_size: got 12, expected a multiple of the 5 processes"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"process_index": 2, "process_count": 2}, "process_index: got 2 of 2"),
        ({"seed": -1}, "seed: got -1"),
        ({"start_step": -1}, "start_step: got -1"),
        ({"workers": -1}, "workers: got -1"),
        ({"threads": -1}, "threads: got -1"),
        ({"pipeline": "flop"}, "did you mean 'flip'"),
    ],
)
def test_errors(digits, arguments, message):
    with pytest.raises(ValueError, match=message):
        take(1, digits, **arguments)


def test_empty_source():
    for make in (train_stream, eval_batches):
        with pytest.raises(ValueError, match="source: numbered is empty"):
            make(
                Numbered(0),
                "to_float",
                batch_size=2,
                **({"seed": 0} if make is train_stream else {}),
            )


@pytest.mark.parametrize("workers", [0, 1])
def test_images_of_different_sizes(tmp_path, workers):
    for i in range(4):
        Image.new("RGB", (8 + i, 8)).save(tmp_path / f"{i}.png")
    source = open_source(f"folder:{tmp_path}")
    with pytest.raises(
        ValueError, match=r"'flip' gives images of different sizes, \(8, .*resize\("
    ):
        take(3, source, "flip", batch_size=4, workers=workers)


def test_error_in_the_stream_names_the_file(tmp_path):
    for i in range(4):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    source = open_source(f"folder:{tmp_path}")
    (tmp_path / "2.png").write_bytes(b"gone bad")
    with pytest.raises(ValueError, match="cannot read image .*2.png"):
        take(3, source, "flip", batch_size=4)


def test_close(digits):
    stream = train_stream(digits, PIPELINE, batch_size=12, seed=0)
    next(stream)
    stream.close()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        next(stream)


class Heavy(Numbered):
    """Images that take long."""

    def __getitem__(self, index):
        time.sleep(0.05)
        return super().__getitem__(index)


@pytest.mark.parametrize("threads", [0, 2])
def test_close_waits_for_no_batch(threads):
    stream = train_stream(Heavy(60), "to_float", batch_size=30, seed=0, threads=threads)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 1  # of a second and a half for a group


@pytest.mark.parametrize("end", ["", "raise RuntimeError('end')"])
def test_exit_without_close_is_quiet(tmp_path, end):
    script = tmp_path / "script.py"
    script.write_text(
        "from vit_jax_xfer.data import open_source, train_stream\n"
        "if __name__ == '__main__':\n"
        "    make = lambda workers: train_stream(open_source('digits'), 'flip', batch_size=64,\n"
        "                                        seed=0, workers=workers)\n"
        "    plain, stream = make(0), make(1)\n"
        "    next(plain), next(stream), next(stream)\n"
        f"    {end}\n"
    )
    out = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, env=_environment()
    )
    errors = out.stderr.splitlines()
    if end.startswith("raise"):
        assert errors[-1] == "RuntimeError: end" and len(errors) <= 4
    else:
        assert errors == [] and out.returncode == 0


def _environment():
    import os
    import pathlib

    return os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
