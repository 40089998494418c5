"""Found objects drawn over their photograph: masks, boxes, names and scores."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vit_jax_xfer.data.outlines import mask_functions
from vit_jax_xfer.evaluate.detection.found_objects import FoundObjects
from vit_jax_xfer.explain.colour_scales import class_colours

_MASK = 0.5  # a mask's share over the photograph
_DARK = 0.5  # lightness under which a colour has white letters


def draw_objects(
    photo: np.ndarray, found: FoundObjects, names: Sequence[str], threshold: float = 0.5
) -> np.ndarray:
    """The photograph (H, W, 3) uint8 with the objects whose score is `threshold` or more.

    A class has one colour on all photographs. The strongest are drawn last, over the others.
    """
    rows = np.flatnonzero(found.scores >= threshold)[::-1]
    colours = class_colours(len(names))
    painted = photo
    if found.outlines is not None:
        for row in rows:
            inside = mask_functions().decode(found.outlines[row]).astype(bool)
            painted = np.where(
                inside[..., None], _mixed(painted, colours[found.classes[row]]), painted
            )
    picture = Image.fromarray(painted)
    draw = ImageDraw.Draw(picture)
    size = max(10, round(max(photo.shape[:2]) / 55))
    font, thick = ImageFont.load_default(size=size), max(2, size // 6)
    for row in rows:
        x0, y0, x1, y1 = found.boxes[row]
        corners = x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)
        draw.rectangle(corners, outline=_of(colours, found, row), width=thick)
    # Names after all boxes, so that no box runs through one.
    for row in rows:
        text = f"{names[found.classes[row]]} {100 * found.scores[row]:.0f} %"
        _label(draw, found.boxes[row][:2], text, _of(colours, found, row), font, picture.size)
    return np.asarray(picture)


def _of(colours: np.ndarray, found: FoundObjects, row: int) -> tuple[int, ...]:
    return tuple(colours[found.classes[row]].tolist())


def _mixed(photo: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return np.round((1 - _MASK) * photo + _MASK * colour).astype(np.uint8)


def _label(
    draw: ImageDraw.ImageDraw,
    corner: np.ndarray,
    text: str,
    colour: tuple[int, ...],
    font: ImageFont.FreeTypeFont,
    size: tuple[int, int],
) -> None:
    """A text on its colour above a box, or inside where the picture ends there."""
    left, top, right, bottom = draw.textbbox((0, 0), text, font)
    width, height = right - left + 6, bottom - top + 4
    x = max(0, min(corner[0], size[0] - width))
    y = corner[1] - height if corner[1] >= height else corner[1]
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    # Rec. 601: how light the eye takes a colour for.
    light = (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) / 255
    draw.text((x + 3 - left, y + 2 - top), text, "white" if light < _DARK else "black", font)
