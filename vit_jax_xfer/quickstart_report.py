"""The report of the quickstart: a table of what was measured, pictures of what was looked at."""

import pathlib
import platform
import statistics
from typing import Any

import jax
import numpy as np

from vit_jax_xfer import data
from vit_jax_xfer.explain.attention_maps import jensen_shannon, received
from vit_jax_xfer.explain.colour_scales import heat
from vit_jax_xfer.explain.pictures import sheet, to_pixels
from vit_jax_xfer.models.collections import give_attention, stack_layers
from vit_jax_xfer.models.extract import Extracted, extract
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained import load_pretrained

IMAGES = 8
ARMS = ("scratch", "fine-tune", "attention copy", "attention distill", "ensemble")
WHAT = {
    "scratch": "no help",
    "fine-tune": "starts from the teacher's weights",
    "attention copy": "computes with the teacher's attention maps",
    "attention distill": "learns attention maps like the teacher's",
    "ensemble": "distilled student and fine-tuned model together",
}


def write_report(root: pathlib.Path, results: dict[str, Any], arguments: dict[str, Any]) -> str:
    """Writes `report.md` and its pictures into a folder; returns the table, for the terminal."""
    table = summary_table(results)
    maps = attention_maps(root)
    draw_maps(maps, root / "attention.png")
    lines = [
        "# Quickstart: what this run measured",
        "",
        f"A vision transformer was pre-trained for {arguments['teacher_steps']} steps on 1,297 "
        "images of digits without their labels. Then students of the same shape were trained for "
        f"{arguments['student_steps']} steps on {arguments['labels']} labelled images a class, "
        f"{times(arguments['seeds'])}. Test: 500 images.",
        "",
        *table,
        "",
        "*gap closed*: 0 % is training from scratch, 100 % is fine-tuning the teacher's weights. "
        f"The teacher's pre-training took {results['teacher']['seconds']:.0f} s.",
        "",
        "A student from scratch learns from the labelled images alone; everything else here knows "
        "the teacher, which has seen all 1,297 images. Digits of 8 × 8 pixels show that the "
        "mechanism works. They say nothing of how much it brings on photographs: for that see the "
        "paper (2411.09702).",
        "",
        "## What they look at",
        "",
        "How much each patch is looked at in the last block, mean over heads and queries, on test "
        "images; light is much. A copying student looks through its teacher's eyes, so the two "
        "columns are equal.",
        "",
        "![Attention of teacher and students on test images](attention.png)",
        "",
        "Distance of the students' maps from the teacher's (Jensen-Shannon divergence in bits, 0 "
        "equal, 1 disjoint; mean over layers, heads, queries):",
        "",
        *distance_table(maps),
        "",
        f"Python {platform.python_version()}, jax {jax.__version__}, "
        f"{jax.device_count()} × {jax.devices()[0].device_kind}, {platform.machine()}.",
    ]
    (root / "report.md").write_text("\n".join(lines) + "\n")
    return "\n".join(table)


def times(seeds: int) -> str:
    """How often a student was trained, in words."""
    return "once" if seeds == 1 else f"{seeds} times, each with other images and other weights"


def summary_table(results: dict[str, Any]) -> list[str]:
    """Markdown rows: arm, top-1 over seeds, share of the gap, seconds."""
    top1 = {arm: [run["metrics"]["top1"] for run in results[arm]] for arm in ARMS}
    low, high = (statistics.mean(top1[arm]) for arm in ("scratch", "fine-tune"))
    rows = ["| | top-1 % | gap closed | seconds of training | |", "|---|---|---|---|---|"]
    for arm in ARMS:
        mean = statistics.mean(top1[arm])
        spread = f" ± {100 * statistics.stdev(top1[arm]):.1f}" if len(top1[arm]) > 1 else ""
        share = f"{100 * (mean - low) / (high - low):.0f} %" if high > low else "no gap"
        seconds = statistics.mean(run["seconds"] for run in results[arm])
        time = f"{seconds:.0f}" if seconds else "–"
        rows.append(f"| {arm} | {100 * mean:.1f}{spread} | {share} | {time} | {WHAT[arm]} |")
    return rows


def attention_maps(root: pathlib.Path) -> dict[str, Any]:
    """The test images, and every network's maps (L, B, H, T, T) on them, of the first seed."""
    source = data.open_source("digits", "test")
    prepare = data.parse_pipeline("normalize(0.5, 0.5)")
    images = np.stack(
        [prepare(source[i], np.random.default_rng(0))["image"] for i in range(IMAGES)]
    )
    folders = {"teacher": root / "teacher"}
    for arm in ("scratch", "fine-tune", "attention distill"):
        folders[arm] = root / f"{arm.replace(' ', '_')}_seed0"
    found = {
        name: extract(*load_pretrained(folder / "model"), images, attention=True, qkv=True)
        for name, folder in folders.items()
    }
    shown = {name: out.attention for name, out in found.items()}
    first = found["teacher"]
    student = load_pretrained(root / "attention_copy_seed0" / "model")
    shown["attention copy"] = copied_maps(*student, images, first)
    grid = first.patch_tokens.shape[1:3]
    return {"images": images, "grid": grid, "prefix": first.num_prefix_tokens, "maps": shown}


def copied_maps(
    student: VisionTransformer, variables: Any, images: np.ndarray, teacher: Extracted
) -> jax.Array:
    """The maps (L, B, H, T, T) of a student that is given its teacher's q and k."""
    layers = range(student.depth)
    given = give_attention(
        {"q": teacher.q, "k": teacher.k},
        layers,
        depth=student.depth,
        num_heads=student.num_heads,
        heads=None,
        scan=student.scan,
    )
    _, out = student.apply({**variables, "given": given}, images, mutable=["attention"])
    return stack_layers(out["attention"], ("attention", "map"))


def draw_maps(maps: dict[str, Any], path: pathlib.Path) -> None:
    """One row an image: the image, then what each network looks at in its last block."""
    names = ("teacher", "attention copy", "attention distill", "fine-tune", "scratch")
    seen = {
        name: np.asarray(received(maps["maps"][name][-1], maps["grid"], maps["prefix"]).mean(1))
        for name in names
    }
    rows = [
        [to_pixels(image), *(heat(seen[name][i], 0.0, 3.0) for name in names)]
        for i, image in enumerate(maps["images"])
    ]
    columns = ("image", *(name.replace("attention ", "") for name in names))
    sheet(rows, columns, path)


def distance_table(maps: dict[str, Any]) -> list[str]:
    """Markdown rows: how far each student's maps are from the teacher's."""
    teacher = maps["maps"]["teacher"]
    rows = ["| | distance |", "|---|---|"]
    for arm in ("scratch", "fine-tune", "attention copy", "attention distill"):
        distance = float(jensen_shannon(maps["maps"][arm], teacher).mean())
        rows.append(f"| {arm} | {distance:.3f} |")
    return rows
