"""The table of methods: as markdown, JSON and CSV."""

import csv
import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from vit_jax_xfer.evaluate.faithfulness.method_scores import FIGURES, LOCALISATION, MethodScores

Rows = dict[str, dict[str, float]]
FPS = "images a second"
_HEADINGS = {
    "positive": "positive %",
    "negative": "negative %",
    "pixel_accuracy": "pixel accuracy %",
    "miou": "mIoU %",
    "mean_ap": "mAP %",
    "f1": "F1 %",
    "pointing": "pointing %",
    "energy": "energy %",
}
_AGAINST = "beats random by"


def rows(scores: Mapping[str, MethodScores]) -> Rows:
    """{method: {figure: its mean}}, with how much less is left at deletion than at random's."""
    found = {}
    for name, one in scores.items():
        found[name] = one.means()
        if "deletion" in found[name] and name != "random" and "random" in scores:
            found[name][_AGAINST] = float(_gain(scores, name).mean())
        found[name][FPS] = one.images_per_second
    return found


def as_markdown(table: Rows) -> str:
    """A row a method; ↓ and ↑ say which way is better, the best of a column is bold."""
    columns = _columns(table)
    lines = ["| method | " + " | ".join(map(_heading, columns)) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for method, row in table.items():
        cells = [_cell(table, name, row.get(name)) for name in columns]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_text(
    ending: str, table: Rows, scores: Mapping[str, MethodScores], about: Mapping[str, Any]
) -> str:
    """A file's content: ".md", ".csv", or ".json" with the flags and each figure's standard error.

    about: what it was measured on.
    """
    if ending == ".md":
        words = ", ".join(f"{name} {value}" for name, value in about.items() if value)
        return f"{as_markdown(table)}\n\n{words}\n"
    if ending == ".csv":
        return _as_csv(table)
    methods = {
        name: {"figures": table[name], "standard_error": _errors(scores, name)} for name in table
    }
    return json.dumps({**about, "methods": methods}, indent=2) + "\n"


def _columns(table: Rows) -> list[str]:
    """The names of all figures there are, in the order of the table."""
    first, *others = FIGURES
    known = [first, _AGAINST, *others, *LOCALISATION, FPS]
    return [name for name in known if any(name in row for row in table.values())]


def _as_csv(table: Rows) -> str:
    columns = _columns(table)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", *columns])
    for method, row in table.items():
        writer.writerow([method, *(row.get(name, "") for name in columns)])
    return text.getvalue()


def _errors(scores: Mapping[str, MethodScores], method: str) -> dict[str, float]:
    """Of the means over images; {} of one image."""
    values = {name: np.asarray(x) for name, x in scores[method].values.items()}
    if "deletion" in values and method != "random" and "random" in scores:
        values[_AGAINST] = _gain(scores, method)
    return {
        name: float(x.std(ddof=1) / np.sqrt(len(x))) for name, x in values.items() if len(x) > 1
    }


def _gain(scores: Mapping[str, MethodScores], method: str) -> np.ndarray:
    """Image by image, how far a method's deletion is below random's."""
    return np.subtract(scores["random"].values["deletion"], scores[method].values["deletion"])


def _heading(name: str) -> str:
    if name == FPS:
        return name
    return f"{_HEADINGS.get(name, name)} {'↑' if FIGURES.get(name, True) else '↓'}"


def _cell(table: Rows, name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == FPS:
        return f"{value:.3g}"
    text = f"{100 * value:.1f}" if name in _HEADINGS else f"{value:.3f}"
    best = (max if FIGURES.get(name, True) else min)(
        row[name] for row in table.values() if name in row
    )
    return f"**{text}**" if value == best else text
