"""Figures of several networks on several suites, as one table: markdown, JSON or CSV."""

import csv
import io
import json
from typing import Any

Rows = dict[str, dict[str, dict[str, float]]]  # network → suite → figures

_TITLES = {"top1": "top-1", "top5": "top-5", "top1_all": "top-1 of all classes", "mce": "mCE"}


def as_markdown(rows: Rows, relative_to: str | None = None) -> str:
    """A row a network, in percent; behind each figure its difference to those of `relative_to`.

    A network of five outputs or fewer has no top-5, and an empty place there.
    """
    columns = [
        (suite, figure)
        for suite in next(iter(rows.values()))
        for figure in _TITLES
        if any(figure in suites[suite] for suites in rows.values())
    ]
    titles = [f"{suite} {_TITLES[figure]}" for suite, figure in columns]
    lines = [f"| network | {' | '.join(titles)} |", "|---" * (len(columns) + 1) + "|"]
    for name, suites in rows.items():
        reference = {} if relative_to in (None, name) else rows[relative_to]
        cells = [
            _cell(suites[suite].get(figure), reference.get(suite, {}).get(figure))
            for suite, figure in columns
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def corruptions_as_markdown(
    suite: str, errors: dict[str, dict[str, float]], relative_to: str | None = None
) -> str:
    """A row a network: errors by corruption in percent; behind each the difference as above.

    errors: network → corruption → share of errors.
    """
    corruptions = list(next(iter(errors.values())))
    lines = [f"| {suite}: errors | {' | '.join(corruptions)} |"]
    lines.append("|---" * (len(corruptions) + 1) + "|")
    for name, found in errors.items():
        reference = None if relative_to in (None, name) else errors[relative_to]
        cells = [_cell(found[one], reference and reference[one]) for one in corruptions]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(value: float | None, reference: float | None) -> str:
    if value is None:
        return ""
    gap = "" if reference is None else f" ({100 * (value - reference):+.1f})"
    return f"{100 * value:.1f}{gap}"


def as_json(rows: Rows, relative_to: str | None, **more: Any) -> str:
    """The figures as shares, and the differences to those of `relative_to`."""
    found: dict[str, Any] = {**more, "networks": rows}
    if relative_to is not None:
        found["relative_to"] = relative_to
        found["gaps"] = {name: _gaps(rows, name, relative_to) for name in rows}
    return json.dumps(found, indent=2) + "\n"


def as_csv(rows: Rows, relative_to: str | None) -> str:
    """A line a figure: network, suite, figure, value, gap."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", "suite", "figure", "value", "gap"])
    for name, suites in rows.items():
        gaps = _gaps(rows, name, relative_to) if relative_to is not None else {}
        for suite, figures in suites.items():
            for figure, value in figures.items():
                writer.writerow([name, suite, figure, value, gaps.get(suite, {}).get(figure, "")])
    return text.getvalue()


def _gaps(rows: Rows, name: str, relative_to: str) -> dict[str, dict[str, float]]:
    return {
        suite: {
            figure: value - rows[relative_to][suite][figure]
            for figure, value in figures.items()
            if figure in _TITLES and figure in rows[relative_to][suite]
        }
        for suite, figures in rows[name].items()
    }
