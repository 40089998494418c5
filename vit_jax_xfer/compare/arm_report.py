"""The report of a comparison: a table of what was measured, curves, what the networks look at."""

import dataclasses
import json
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import jax

from vit_jax_xfer.compare.arm_attention import Distance, look
from vit_jax_xfer.compare.arm_runs import Result
from vit_jax_xfer.compare.arms import Arm
from vit_jax_xfer.compare.comparison import Comparison
from vit_jax_xfer.compare.learning_curves import Curve, Panel, draw_curves
from vit_jax_xfer.train.metrics import as_json, read_metrics
from vit_jax_xfer.whole_files import write_whole

RESULTS = "results.json"
_SMALLEST_GAP = 0.001  # a tenth of a point, the last digit that is shown
_LABEL_LOSS = ("label_loss", "loss")  # without a teacher's the loss is the labels' alone

Results = Mapping[Arm, Sequence[Result]]


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of one arm's runs: top-1 as a share, its mean and, of two or more, standard deviation.

    gap_closed: 0 = as from scratch, 1 = as fine-tuned; None without these, or where the fine-tuned
    is no better. seconds: of training, a mean.
    """

    top1: tuple[float, ...]
    mean: float
    deviation: float | None
    gap_closed: float | None
    seconds: float


@dataclasses.dataclass(frozen=True)
class ReportTexts:
    """Paragraphs around the figures: before the table, and after it."""

    title: str
    before: Sequence[str]
    after: Sequence[str]


def write_report(
    comparison: Comparison,
    results: Results,
    failed: Mapping[str, str],
    texts: ReportTexts,
    command: str,
) -> list[str]:
    """Writes report.md, its pictures and results.json; returns the table, for the terminal."""
    root, table = comparison.root, summary_table(arm_figures(results))
    lines = [f"# {texts.title}", "", *_paragraphs(texts.before), *table, ""]
    lines += _paragraphs(texts.after)
    lines += _listed(f"{name} failed: {reason}" for name, reason in failed.items())
    draw_curves(curves(comparison, results), root / "curves.png")
    lines += ["## How they learn", "", *_paragraphs([_CURVES, "![Curves](curves.png)"])]
    lines += ["## What they look at", ""]
    distances = {}
    try:
        looks = look(comparison, [arm for arm, runs in results.items() if _is_shown(arm, runs)])
    except ValueError as error:
        lines += [f"No pictures: {error}.", ""]
    else:
        looks.draw(root / "attention.png")
        distances = looks.distances
        lines += _paragraphs([_LOOKS, "![Attention](attention.png)", _DISTANCES])
        lines += [*distance_table(distances), ""]
        lines += _listed(f"{name}: no distance: {why}" for name, why in looks.lacking.items())
    lines += _paragraphs([f"`{command}`", f"{environment()}, {date.today()}."])
    write_whole(root / "report.md", "\n".join(lines[:-1]) + "\n")
    write_results(comparison, results, failed, command, distances)
    return table


_CURVES = (
    "Loss of the labels on training batches, and top-1; thin lines are single runs, thick ones "
    "their mean."
)
_LOOKS = (
    "How much each patch is looked at in the last block, mean over heads and queries, on images "
    "of the evaluation; light is much, 1 is what an even look gives. A student that copies looks "
    "through its teacher's eyes."
)
_DISTANCES = (
    "How far the students are from their teacher: Jensen-Shannon divergence of attention maps in "
    "bits (0 equal, 1 disjoint; mean over layers, heads, queries), of heads of the same number and "
    "of heads matched one to one; CKA of features, layer by layer (1 alike). On the images above, "
    "first seed."
)


def _is_shown(arm: Arm, runs: Sequence[Result]) -> bool:
    """Whether an arm has a network of its own, trained with the first seed."""
    return arm.name != "ensemble" and any(run["seed"] == 0 for run in runs)


def arm_figures(results: Results) -> dict[Arm, Figures]:
    """The figures of all arms that have a result."""
    top1 = {
        arm: tuple(run["metrics"]["top1"] for run in runs) for arm, runs in results.items() if runs
    }
    means = {arm: statistics.mean(values) for arm, values in top1.items()}
    low, high = (means.get(Arm(name)) for name in ("scratch", "finetune"))
    found = {}
    for arm, values in top1.items():
        gap = None
        if low is not None and high is not None and high - low > _SMALLEST_GAP:
            gap = (means[arm] - low) / (high - low)
        deviation = statistics.stdev(values) if len(values) > 1 else None
        seconds = statistics.mean(run["seconds"] for run in results[arm])
        found[arm] = Figures(values, means[arm], deviation, gap, seconds)
    return found


def summary_table(figures: Mapping[Arm, Figures]) -> list[str]:
    """Markdown rows: arm, top-1 over seeds, share of the gap, seconds, what it is."""
    rows = ["| | top-1 % | gap closed | seconds of training | |", "|---|---|---|---|---|"]
    for arm, one in figures.items():
        spread = f" ± {100 * one.deviation:.1f}" if one.deviation is not None else ""
        gap = f"{100 * one.gap_closed:.0f} %" if one.gap_closed is not None else "–"
        time = f"{one.seconds:.0f}" if one.seconds else "–"
        cells = (arm.title, f"{100 * one.mean:.1f}{spread}", gap, time, arm.kind.what)
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def distance_table(distances: Mapping[str, Distance]) -> list[str]:
    """Markdown rows: how far each student is from the teacher."""
    rows = ["| | same head | heads matched | CKA |", "|---|---|---|---|"]
    for name, one in distances.items():
        same = f"{one.same_head:.3f}" if one.same_head is not None else "–"
        rows.append(f"| {name} | {same} | {one.matched_heads:.3f} | {one.cka:.2f} |")
    return rows


def curves(comparison: Comparison, results: Results) -> list[Panel]:
    """Loss of the labels on training batches; top-1 of evaluations, or of these batches where there
    is only the last evaluation."""
    trained = {arm: runs for arm, runs in results.items() if arm.name != "ensemble"}
    rows = {
        arm: [read_metrics(arm.folder(comparison.root, run["seed"])) for run in runs]
        for arm, runs in trained.items()
    }

    def panel(title: str, kind: str, names: Sequence[str]) -> Panel:
        found = {
            arm.title: [_curve(run, kind, names) for run in runs] for arm, runs in rows.items()
        }
        return Panel(title, found)

    evaluated = panel("top-1, evaluation", "eval", ("top1",))
    if all(len(curve) < 2 for runs in evaluated.runs.values() for curve in runs):
        evaluated = panel("top-1, training batches", "train", ("top1",))
    return [panel("loss of the labels, training batches", "train", _LABEL_LOSS), evaluated]


def _curve(rows: Sequence[Mapping[str, Any]], kind: str, names: Sequence[str]) -> Curve:
    """(step, value) of the first of the names that a row has, of rows of a kind."""
    found = []
    for row in rows:
        name = next((one for one in names if one in row["values"]), None)
        if row["kind"] == kind and name is not None and row["values"][name] is not None:
            found.append((row["step"], row["values"][name]))
    return found


def write_results(
    comparison: Comparison,
    results: Results,
    failed: Mapping[str, str],
    command: str,
    distances: Mapping[str, Distance] | None = None,
) -> None:
    """Writes results.json: every figure of the report, and those of single runs."""
    arms = {}
    for arm, one in arm_figures(results).items():
        runs = [
            {
                "seed": run["seed"],
                "folder": arm.folder(comparison.root, run["seed"]).name,
                "config": comparison.form(arm, run["seed"]),
                **{name: run[name] for name in ("step", "seconds")},
                "metrics": as_json(run["metrics"])[0],
            }
            for run in results[arm]
        ]
        distance = (distances or {}).get(arm.title)
        arms[arm.title] = {
            "what": arm.kind.what,
            **dataclasses.asdict(one),
            "distance": dataclasses.asdict(distance) if distance else None,
            "runs": runs,
        }
    found = {
        "command": command,
        "teacher": comparison.teacher,
        "environment": environment(),
        "arms": arms,
        "failed": dict(failed),
    }
    comparison.root.mkdir(parents=True, exist_ok=True)
    write_whole(comparison.root / RESULTS, json.dumps(found, indent=2, allow_nan=False) + "\n")


def environment() -> str:
    """Versions and machine, in a line."""
    device = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
    versions = f"Python {platform.python_version()}, jax {jax.__version__}"
    return f"{versions}, {device}, {platform.machine()}"


def times(seeds: int, labels: int) -> str:
    """How often a student was trained, in words. labels: images a class, 0 = all."""
    if seeds == 1:
        return "once"
    return f"{seeds} times, each with {'other images and ' if labels else ''}other weights"


def _paragraphs(texts: Sequence[str]) -> list[str]:
    return [line for text in texts for line in (text, "")]


def _listed(texts: Iterable[str]) -> list[str]:
    """Markdown's items with an empty line after; nothing for none."""
    items = [f"* {text}" for text in texts]
    return [*items, ""] if items else []
