"""A benchmark run with one feature extractor after the other, as a table that grows."""

import argparse
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from vit_jax_xfer.evaluate.benchmark import Benchmark
from vit_jax_xfer.explain.progress import Progress
from vit_jax_xfer.features.command import out_path
from vit_jax_xfer.features.cost_estimate import say_cost
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.features.table import TableRow, markdown, row_of, write_json
from vit_jax_xfer.terminal import show

_NOT_WRITTEN = ("out", "overwrite")


def compare(
    options: argparse.Namespace,
    benchmark: Benchmark,
    extractors: Sequence[FeatureExtractor],
    items: str = "images",
    timed: bool = True,
    about: Mapping[str, Any] | None = None,
) -> list[TableRow]:
    """Prints a markdown row as each extractor is done; --out gets the rows with the flags.

    options: as features/command.py's comparison_parser makes them. items: what the benchmark
    counts, in words. timed: False leaves out an image's seconds, where sizes differ. about: more to
    write. Which extractor runs, and how far it is, goes to stderr. ValueError, before any runs,
    where an extractor can't take the benchmark's size.
    """
    path = out_path(options)
    check_input_size(extractors, benchmark.size)
    photographs = getattr(benchmark, "photographs", 0)
    work = [(x.name, photographs, x.multiply_adds(benchmark.size)) for x in extractors]
    say_cost(work, besides=sum(map(benchmark.seconds_besides, extractors)))
    chosen = {name: value for name, value in vars(options).items() if name not in _NOT_WRITTEN}
    rows: list[TableRow] = []
    for number, extractor in enumerate(extractors, start=1):
        show(
            f"{benchmark.name}, {number} of {len(extractors)}: {extractor.name}",
            name="stderr",
        )
        row = run_extractor(benchmark, extractor, items)
        rows.append(row if timed else dataclasses.replace(row, seconds=math.nan))
        lines = markdown(rows).splitlines()
        # The header comes with the first row.
        show("\n".join(lines if number == 1 else lines[-1:]))
        # After each, so that a kill loses one extractor at most.
        if path is not None:
            write_json(path, rows, {"benchmark": benchmark.name, **(about or {}), **chosen})
    return rows


def check_input_size(
    extractors: Sequence[FeatureExtractor], size: int, flag: str = "--image-size"
) -> None:
    """ValueError, naming the flag, where photographs of that many pixels don't suit one."""
    for extractor in extractors:
        try:
            extractor.grid(size)
        except ValueError as error:
            patch = extractor.backbone.patch_size
            near = max(1, round(size / patch)) * patch
            hint = f"; {near} is the nearest that is" if near != size else ""
            raise ValueError(f"{flag} {size}: {extractor.name}: {error}{hint}") from None


def run_extractor(benchmark: Benchmark, extractor: FeatureExtractor, items: str) -> TableRow:
    """One extractor's row, with its progress on stderr."""
    progress: Any = None

    def report(done: int, total: int) -> None:
        nonlocal progress
        if progress is None:
            progress = Progress(total, items).__enter__()
        progress.report(done)

    try:
        result = benchmark(extractor, report)
    finally:
        if progress is not None:
            progress.__exit__()
    return row_of(extractor, benchmark.size, result.figures, result.skipped)
