"""Lines over steps as a picture: a colour an arm, thin lines for its runs and a thick mean."""

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vit_jax_xfer.explain.colour_scales import class_colours
from vit_jax_xfer.explain.pictures import write_png

_SCALE = 2  # drawn so much larger first: pillow's lines have hard edges
_PANEL = 420, 260  # pixels, width and height
_MARGIN = {"left": 58, "right": 16, "top": 34, "bottom": 40}
_FONT = 12
_PALE = 0.6  # how far the lines of single runs are on the way to white

Curve = Sequence[tuple[float, float]]  # (step, value), in order of steps


@dataclasses.dataclass(frozen=True)
class Panel:
    """One chart. runs: {arm: a curve each seed}; an arm without a curve has no line in it."""

    title: str
    runs: Mapping[str, Sequence[Curve]]


def draw_curves(panels: Sequence[Panel], path: str | os.PathLike[str]) -> None:
    """Writes panels side by side with one legend as a PNG. ValueError where none has a curve."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.runs))
    if not any(curve for panel in panels for runs in panel.runs.values() for curve in runs):
        raise ValueError("panels: no curve in any of them")
    colours = dict(zip(names, _line_colours(len(names)), strict=True))
    font = ImageFont.load_default(size=_FONT * _SCALE)
    width = _MARGIN["left"] + _PANEL[0] + _MARGIN["right"]
    height = _MARGIN["top"] + _PANEL[1] + _MARGIN["bottom"]
    legend = _legend(names, colours, font, width * len(panels))
    size = width * len(panels) * _SCALE, (height * _SCALE + legend.height)
    canvas = Image.new("RGB", size, "white")
    for number, panel in enumerate(panels):
        corner = (number * width + _MARGIN["left"]) * _SCALE, _MARGIN["top"] * _SCALE
        _draw_panel(ImageDraw.Draw(canvas), corner, panel, colours, font)
    canvas.paste(legend, (0, height * _SCALE))
    smaller = canvas.size[0] // _SCALE, canvas.size[1] // _SCALE
    write_png(canvas.resize(smaller, Image.Resampling.BOX), path)


def mean_curve(runs: Sequence[Curve]) -> list[tuple[float, float]]:
    """The mean at each step that all curves have."""
    tables = [dict(curve) for curve in runs if curve]
    shared = sorted(set.intersection(*map(set, tables))) if tables else []
    return [(step, sum(table[step] for table in tables) / len(tables)) for step in shared]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from `low` to `high`: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(unit * x for x in (1, 2, 5, 10) if (high - low) / (unit * x) <= most)
    first = math.ceil(low / step - 1e-9)
    return [step * n for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _line_colours(number: int) -> list[tuple[int, ...]]:
    """Of the colours of classes those that a thin line can have: every third is too light."""
    colours = [colour for place, colour in enumerate(class_colours(2 * number)) if place % 3 != 2]
    return [tuple(int(part) for part in colour) for colour in colours[:number]]


def _draw_panel(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    panel: Panel,
    colours: Mapping[str, tuple[int, ...]],
    font: ImageFont.FreeTypeFont,
) -> None:
    points = np.array([one for runs in panel.runs.values() for curve in runs for one in curve])
    left, top = corner
    width, height = (side * _SCALE for side in _PANEL)
    draw.text((left, top - 1.4 * font.size), panel.title, "black", font)
    draw.rectangle((left, top, left + width, top + height), outline=(150, 150, 150))
    if not len(points):
        draw.text((left + width / 2, top + height / 2), "none", (150, 150, 150), font, "mm")
        return
    (low_x, low_y), (high_x, high_y) = points.min(0), points.max(0)
    low_y = min(low_y, 0.0)

    def place(step: float, value: float) -> tuple[float, float]:
        across = (step - low_x) / ((high_x - low_x) or 1)
        up = (value - low_y) / (1.04 * (high_y - low_y) or 1)
        return left + across * width, top + height - up * height

    for value in ticks(low_y, high_y):
        y = place(low_x, value)[1]
        draw.line((left, y, left + width, y), (225, 225, 225), _SCALE // 2)
        draw.text((left - font.size / 2, y), f"{value:g}", "black", font, "rm")
    for step in ticks(low_x, high_x):
        x = place(step, low_y)[0]
        draw.text((x, top + height + font.size), f"{step:g}", "black", font, "mm")
    draw.text((left + width / 2, top + height + 2.4 * font.size), "steps", "black", font, "mm")
    for name, runs in panel.runs.items():
        pale = tuple(round(part + (255 - part) * _PALE) for part in colours[name])
        if len(runs) > 1:
            for curve in runs:
                _line(draw, [place(*one) for one in curve], pale, _SCALE)
    # Wider below narrower ones, so that of lines that coincide each is seen.
    widths = np.linspace(5, 2, len(panel.runs)) * _SCALE
    for thick, (name, runs) in zip(widths.round().astype(int), panel.runs.items(), strict=True):
        _line(draw, [place(*one) for one in mean_curve(runs)], colours[name], int(thick))


def _line(
    draw: ImageDraw.ImageDraw,
    places: Sequence[tuple[float, float]],
    colour: tuple[int, ...],
    width: int,
) -> None:
    """A line through places; a dot where there is one alone."""
    if len(places) == 1:
        (x, y), reach = places[0], 2 * width
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
    else:
        draw.line(places, fill=colour, width=width, joint="curve")


def _legend(
    names: Sequence[str],
    colours: Mapping[str, tuple[int, ...]],
    font: ImageFont.FreeTypeFont,
    width: int,
) -> Image.Image:
    """A stroke of its colour before each name, in as many lines as they need."""
    gap, stroke, left = 2 * font.size, 2 * font.size, _MARGIN["left"] * _SCALE
    rows: list[list[tuple[int, str]]] = [[]]
    x = left
    for name in names:
        needs = int(stroke + font.size / 2 + font.getlength(name) + gap)
        if x + needs > width * _SCALE and rows[-1]:
            rows.append([])
            x = left
        rows[-1].append((x, name))
        x += needs
    canvas = Image.new("RGB", (width * _SCALE, int(1.6 * font.size * len(rows))), "white")
    draw = ImageDraw.Draw(canvas)
    for number, row in enumerate(rows):
        y = int((1.6 * number + 0.7) * font.size)
        for x, name in row:
            draw.line((x, y, x + stroke, y), colours[name], 3 * _SCALE)
            draw.text((x + stroke + font.size / 2, y), name, "black", font, "lm")
    return canvas
