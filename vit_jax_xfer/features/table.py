"""A comparison of feature extractors, as one table: figures, seconds, multiply-adds, skips."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.whole_files import write_whole


@dataclasses.dataclass(frozen=True)
class TableRow:
    """What one extractor reaches. figures: shares of 1 by name. skipped: what, and how many.

    grid: (h, w). seconds: of one image's features. multiply_adds: of one image's features.
    """

    extractor: str
    grid: tuple[int, int]
    figures: Mapping[str, float]
    skipped: Mapping[str, int]
    seconds: float
    multiply_adds: int


def row_of(
    extractor: FeatureExtractor, size: int, figures: Mapping[str, float], skipped: Mapping[str, int]
) -> TableRow:
    """The row of an extractor that was run on photographs of `side(size)` pixels."""
    return TableRow(
        extractor.name,
        extractor.grid(size),
        dict(figures),
        dict(skipped),
        extractor.seconds_per_image,
        extractor.multiply_adds(size),
    )


def markdown(rows: Sequence[TableRow]) -> str:
    """The table with a header; figures as percentages with one digit."""
    figures = list(dict.fromkeys(name for row in rows for name in row.figures))
    skipped = list(dict.fromkeys(name for row in rows for name in row.skipped))
    header = [
        "features", "grid", *figures, *(f"skipped {name}" for name in skipped),
        "ms an image", "G multiply-adds",
    ]  # fmt: skip
    lines = [header, ["---"] * len(header)]
    for row in rows:
        lines.append(
            [
                row.extractor,
                "×".join(map(str, row.grid)),
                *(_percent(row.figures.get(name, math.nan)) for name in figures),
                *(str(row.skipped.get(name, 0)) for name in skipped),
                "" if math.isnan(row.seconds) else f"{1000 * row.seconds:.0f}",
                f"{row.multiply_adds / 1e9:.2f}",
            ]
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_json(path: Path, rows: Sequence[TableRow], about: Mapping[str, Any]) -> None:
    """The rows and what they are about, NaN as null; the file appears when it is complete.

    Beside the new names stand those of version 0.1, which scripts read: way and ways.
    """
    written = [_with_old_name(_without_nan(dataclasses.asdict(row))) for row in rows]
    plain = {**_with_old_name(about), "rows": written}
    write_whole(path, json.dumps(plain, indent=2) + "\n")


def _with_old_name(fields: Mapping[str, Any]) -> dict[str, Any]:
    old = {"extractor": "way", "extractors": "ways"}
    return {**fields, **{old[name]: value for name, value in fields.items() if name in old}}


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
