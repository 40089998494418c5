"""Benchmarks by their names, as a run's `config.eval.benchmarks` and commands give them."""

from collections.abc import Callable

from vit_jax_xfer.evaluate.benchmark import ItemBenchmark

# (the data as "layout:PATH", size, limit) → ItemBenchmark.
Opener = Callable[[str, int, int | None], ItemBenchmark]


def open_benchmark(spec: str, size: int, limit: int | None = None) -> ItemBenchmark:
    """The benchmark of "task:layout:PATH", such as "videos:davis2017:/data/DAVIS", checked.

    size: pixels of the square input. limit: only so many of the data set's items (pairs, videos).
    ValueError for an unknown task or layout and for files that aren't what they should be.
    """
    task, _, data = spec.partition(":")
    if task not in OPENERS or not data:
        known = ", ".join(f"{name}:LAYOUT:PATH" for name in OPENERS)
        raise ValueError(f"benchmark {spec!r}: expected one of {known}")
    if size < 1 or (limit is not None and limit < 1):
        raise ValueError(f"benchmark {spec!r}: size and limit: at least 1, got {size} and {limit}")
    return OPENERS[task](data, size, limit)


# Imported when they are asked for: they need SciPy and Pillow.


def _correspondence(data: str, size: int, limit: int | None) -> ItemBenchmark:
    from vit_jax_xfer.evaluate.correspondence.correspondence_benchmark import open_correspondence

    return open_correspondence(data, size, limit)


def _videos(data: str, size: int, limit: int | None) -> ItemBenchmark:
    from vit_jax_xfer.evaluate.videos.video_benchmark import open_videos_benchmark

    return open_videos_benchmark(data, size, limit)


def _objects(data: str, size: int, limit: int | None) -> ItemBenchmark:
    from vit_jax_xfer.evaluate.objects.object_benchmark import open_objects

    return open_objects(data, size, limit)


def _scale(data: str, size: int, limit: int | None) -> ItemBenchmark:
    from vit_jax_xfer.evaluate.similarity.scale_study import open_scale_study

    return open_scale_study(data, size, limit)


def _segmentation(data: str, size: int, limit: int | None) -> ItemBenchmark:
    from vit_jax_xfer.evaluate.segmentation.segmentation_benchmark import open_segmentation

    benchmark = open_segmentation(data, size, limit)
    benchmark.check_classes()
    return benchmark


OPENERS: dict[str, Opener] = {
    "correspondence": _correspondence,
    "objects": _objects,
    "scale": _scale,
    "segmentation": _segmentation,
    "videos": _videos,
}
