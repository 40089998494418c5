"""Maps as pictures: heat over an image, and sheets of pictures with titles. Pillow alone."""

import functools
import math
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from vit_jax_xfer.explain.colour_scales import Scale, end_texts
from vit_jax_xfer.whole_files import written_whole

_BAR = 14  # pixels of the width of a bar of colours
_GAP = 8  # and between what stands side by side


def to_pixels(image: np.ndarray, mean: ArrayLike = 0.5, std: ArrayLike = 0.5) -> np.ndarray:
    """A normalised image (h, w, 3) float → (h, w, 3) uint8. mean, std: one, or one a channel."""
    return np.clip(np.round((np.asarray(image) * std + mean) * 255), 0, 255).astype(np.uint8)


def sheet(
    rows: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str],
    path: str | os.PathLike[str],
    *,
    cell: int | tuple[int, int] = 96,
    row_titles: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
    bars: Sequence[Sequence[Scale]] | None = None,
    heading: str = "",
    font_size: int = 12,
) -> None:
    """Writes pictures (h, w, 3) uint8 in rows and titled columns as one PNG.

    rows: None leaves a place empty. cell: pixels of a picture's side on the sheet, or (height,
    width); small pictures are enlarged without smoothing, so that each patch stays a square.
    captions: a line below each picture. bars: the scales of each row's colours, drawn at its right
    end. heading: a line above all, its middle cut out if too long. Columns are as wide as their
    texts need.
    """
    height, width = (cell, cell) if isinstance(cell, int) else cell
    gap, line = _GAP, 2 * font_size
    font = ImageFont.load_default(size=font_size)
    titles = list(row_titles or [""] * len(rows))
    texts = [columns, *(captions or [])]
    widths = [
        max(width, *(math.ceil(font.getlength(row[i])) for row in texts))
        for i in range(len(columns))
    ]
    left = gap + max((int(font.getlength(title)) + gap for title in titles if title), default=0)
    lefts = [left + sum(widths[:i]) + i * gap for i in range(len(columns) + 1)]
    head = line * (2 if heading else 1)
    step = height + gap + (line - gap if captions else 0)
    bar_widths = [sum(_bar_width(scale, font) for scale in scales) for scales in bars or ()]
    total = lefts[-1] + max(bar_widths, default=0)
    canvas = Image.new("RGB", (total, head + len(rows) * step + gap), "white")
    draw = ImageDraw.Draw(canvas)
    text = functools.partial(draw.text, fill="black", font=font)
    text((gap, font_size + 2), shortened(heading, font, total - 2 * gap), anchor="lm")
    for column, title in enumerate(columns):
        text((lefts[column] + widths[column] / 2, head - font_size + 2), title, anchor="mm")
    for row, pictures in enumerate(rows):
        y = head + row * step
        text((gap, y + height / 2), titles[row], anchor="lm")
        for column, picture in enumerate(pictures):
            x = lefts[column] + (widths[column] - width) // 2
            if picture is not None:
                tile = Image.fromarray(picture).resize((width, height), Image.Resampling.NEAREST)
                canvas.paste(tile, (x, y))
            if captions:
                middle = lefts[column] + widths[column] / 2
                text((middle, y + height + font_size), captions[row][column], anchor="mm")
        if bars:
            _draw_bars(canvas, bars[row], (lefts[-1], y), height, font)
    write_png(canvas, path)


def _bar_width(scale: Scale, font: ImageFont.FreeTypeFont) -> int:
    """Pixels that a bar takes with its numbers and the gap after it."""
    return _BAR + 4 + math.ceil(max(map(font.getlength, end_texts(scale)))) + _GAP


def _draw_bars(
    canvas: Image.Image,
    scales: Sequence[Scale],
    corner: tuple[int, int],
    height: int,
    font: ImageFont.FreeTypeFont,
) -> None:
    """Bars of colours side by side from a corner (x, y) on, with the numbers at their ends."""
    draw = ImageDraw.Draw(canvas)
    x, y = corner
    for scale in scales:
        canvas.paste(Image.fromarray(scale.bar(height, _BAR)), (x, y))
        low, high = end_texts(scale)
        numbers = [(y, high, "lt"), (y + height, low, "ls")]
        if scale.signed:
            numbers.append((y + height / 2, "0", "lm"))
        for place, number, anchor in numbers:
            draw.text((x + _BAR + 4, place), number, "black", font, anchor)
        x += _bar_width(scale, font)


def shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, or as much of its beginning and end as `width` pixels hold."""
    if font.getlength(text) <= width:
        return text
    for length in range(len(text) - 1, 1, -1):
        cut = text[: (length + 1) // 2] + "…" + text[len(text) - length // 2 :]
        if font.getlength(cut) <= width:
            return cut
    return "…"


def write_png(picture: np.ndarray | Image.Image, path: str | os.PathLike[str]) -> None:
    """A picture (h, w, 3) uint8 as a PNG, beside its place first, so that it is never half."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    with written_whole(path) as partial:
        image.save(partial, format="PNG")
