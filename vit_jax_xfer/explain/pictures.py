"""Maps as pictures: heat over an image, and sheets of pictures with titles. Pillow alone."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Anchors of a dark-to-light scale whose lightness grows evenly, close to matplotlib's inferno.
_ANCHORS = np.array(
    [(4, 4, 20), (70, 15, 105), (155, 40, 100), (225, 85, 50), (250, 165, 20), (252, 250, 165)],
    np.float32,
)


def to_pixels(image: np.ndarray, mean: float = 0.5, std: float = 0.5) -> np.ndarray:
    """A normalised image (h, w, 3) float → (h, w, 3) uint8."""
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
    rows: Sequence[Sequence[np.ndarray]],
    columns: Sequence[str],
    path: str | os.PathLike[str],
    *,
    cell: int = 96,
    row_titles: Sequence[str] | None = None,
) -> None:
    """Writes pictures (h, w, 3) uint8 in rows and titled columns as one PNG.

    cell: pixels of a picture's side on the sheet; small pictures are enlarged without smoothing,
    so that each patch stays a square.
    """
    gap, head = 8, 24
    font = ImageFont.load_default(size=12)
    titles = list(row_titles or [""] * len(rows))
    left = gap + max((int(font.getlength(title)) + gap for title in titles if title), default=0)
    width = left + len(columns) * (cell + gap)
    canvas = Image.new("RGB", (width, head + len(rows) * (cell + gap) + gap), "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(columns):
        x = left + column * (cell + gap) + cell / 2
        draw.text((x, head / 2 + 2), title, fill="black", font=font, anchor="mm")
    for row, pictures in enumerate(rows):
        y = head + row * (cell + gap)
        draw.text((gap, y + cell / 2), titles[row], fill="black", font=font, anchor="lm")
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((cell, cell), Image.Resampling.NEAREST)
            canvas.paste(tile, (left + column * (cell + gap), y))
    canvas.save(path)
