"""Maps as pictures: heat over an image, and sheets of pictures with titles. Pillow alone."""

import functools
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

# Anchors of a dark-to-light scale whose lightness grows evenly, close to matplotlib's inferno.
_ANCHORS = np.array(
    [(4, 4, 20), (70, 15, 105), (155, 40, 100), (225, 85, 50), (250, 165, 20), (252, 250, 165)],
    np.float32,
)


def to_pixels(image: np.ndarray, mean: ArrayLike = 0.5, std: ArrayLike = 0.5) -> np.ndarray:
    """A normalised image (h, w, 3) float → (h, w, 3) uint8. mean, std: one, or one a channel."""
    return np.clip(np.round((np.asarray(image) * std + mean) * 255), 0, 255).astype(np.uint8)


def heat(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """Numbers (h, w) → colours (h, w, 3) uint8, dark for `low`, light for `high`."""
    values = np.asarray(values, np.float32)
    low = float(values.min()) if low is None else low
    high = float(values.max()) if high is None else high
    position = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * (len(_ANCHORS) - 1)
    left = np.minimum(position.astype(int), len(_ANCHORS) - 2)
    share = (position - left)[..., None]
    return np.round(_ANCHORS[left] * (1 - share) + _ANCHORS[left + 1] * share).astype(np.uint8)


def sheet(
    rows: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str],
    path: str | os.PathLike[str],
    *,
    cell: int | tuple[int, int] = 96,
    row_titles: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
    heading: str = "",
    font_size: int = 12,
) -> None:
    """Writes pictures (h, w, 3) uint8 in rows and titled columns as one PNG.

    rows: None leaves a place empty. cell: pixels of a picture's side on the sheet, or (height,
    width); small pictures are enlarged without smoothing, so that each patch stays a square.
    captions: a line below each picture. heading: a line above all, its middle cut out if too long.
    Columns are as wide as their texts need.
    """
    height, width = (cell, cell) if isinstance(cell, int) else cell
    gap, line = 8, 2 * font_size
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
    canvas = Image.new("RGB", (lefts[-1], head + len(rows) * step + gap), "white")
    draw = ImageDraw.Draw(canvas)
    text = functools.partial(draw.text, fill="black", font=font)
    text((gap, font_size + 2), shortened(heading, font, lefts[-1] - 2 * gap), anchor="lm")
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
    write_png(canvas, path)


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
    path = pathlib.Path(path)
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    partial = path.with_name(f".{path.name}.partial")
    try:
        image.save(partial, format="PNG")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
