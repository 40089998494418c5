"""A benchmark run with one way to have features after the other, as a table that grows."""

import argparse
import dataclasses
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax_xfer.evaluate.benchmark import Benchmark
from vit_jax_xfer.explain.progress import Progress
from vit_jax_xfer.features.command import out_path
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.features.table import Row, markdown, row_of, write_json

_NOT_TOLD = ("out", "overwrite")


def compare(
    options: argparse.Namespace,
    benchmark: Benchmark,
    ways: Sequence[FeatureExtractor],
    items: str = "images",
    timed: bool = True,
    about: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Prints a markdown row as each way is done, and writes --out with the flags beside the rows.

    options: as features/command.py's comparison_parser makes them. items: what the benchmark
    counts, in words. timed: False leaves out an image's seconds, where sizes differ. about: more to
    write. Which way runs, and how far it is, goes to stderr. ValueError where a way can't take the
    benchmark's size, before any runs.
    """
    path = out_path(options)
    check_size(ways, benchmark.size)
    told = {name: value for name, value in vars(options).items() if name not in _NOT_TOLD}
    rows: list[Row] = []
    for number, way in enumerate(ways, start=1):
        print(f"{benchmark.name}, {number} of {len(ways)}: {way.name}", file=sys.stderr, flush=True)
        row = run(benchmark, way, items)
        rows.append(row if timed else dataclasses.replace(row, seconds=math.nan))
        lines = markdown(rows).splitlines()
        # The header comes with the first row.
        print("\n".join(lines if number == 1 else lines[-1:]), flush=True)
        # After each, so that a kill loses one way at most.
        if path is not None:
            write_json(path, rows, {"benchmark": benchmark.name, **(about or {}), **told})
    return rows


def check_size(ways: Sequence[FeatureExtractor], size: int) -> None:
    """ValueError, naming the size, where photographs of that many pixels don't suit a way."""
    for way in ways:
        try:
            way.grid(size)
        except ValueError as error:
            patch = way.backbone.patch_size
            near = max(1, round(size / patch)) * patch
            hint = f"; {near} is the nearest that is" if near != size else ""
            raise ValueError(f"size {size}: {way.name}: {error}{hint}") from None


def run(benchmark: Benchmark, way: FeatureExtractor, items: str) -> Row:
    """One way's row, with its progress on stderr."""
    progress: Any = None

    def report(done: int, total: int) -> None:
        nonlocal progress
        if progress is None:
            progress = Progress(total, items).__enter__()
        progress.report(done)

    try:
        result = benchmark(way, report)
    finally:
        if progress is not None:
            progress.__exit__()
    return row_of(way, benchmark.size, result.figures, result.skipped)
