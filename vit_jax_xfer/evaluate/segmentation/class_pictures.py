"""Classes of pixels as pictures: over the photograph with a legend, and as numbers."""

import os
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vit_jax_xfer.explain.colour_scales import class_colours
from vit_jax_xfer.explain.pictures import shortened, write_png

_SHARE = 0.6  # of a class's colour over the photograph
_GAP = 8
_SMALLEST = 1 / 1000  # share of the pixels; what has less is not in the legend


def draw_classes(photo: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """The photograph (H, W, 3) uint8 under the colours of its classes (H, W), a legend below.

    A class has one colour on all photographs. The legend has those that take a thousandth of the
    pixels or more, by falling area.
    """
    colours = class_colours(len(names))
    mixed = np.round((1 - _SHARE) * photo + _SHARE * colours[classes]).astype(np.uint8)
    shares = np.bincount(classes.ravel(), minlength=len(names)) / classes.size
    order = [k for k in np.argsort(-shares, kind="stable") if shares[k] >= _SMALLEST]
    legend = _legend([(names[k], shares[k], colours[k]) for k in order], photo.shape[1])
    return np.concatenate([mixed, legend])


def _legend(entries: Sequence[tuple[str, float, np.ndarray]], width: int) -> np.ndarray:
    """Squares with names and shares in rows, (h, width, 3) uint8."""
    size = min(max(11, width // 50), 24)
    font = ImageFont.load_default(size=size)
    texts = [f"{name} {100 * share:.1f} %" for name, share, _ in entries]
    texts = [shortened(text, font, width - size - 3 * _GAP) for text in texts]
    places, x, y = [], _GAP, _GAP
    for text in texts:
        needed = round(size + 4 + font.getlength(text) + 2 * _GAP)
        if x > _GAP and x + needed > width:
            x, y = _GAP, y + size + _GAP
        places.append((x, y))
        x += needed
    canvas = Image.new("RGB", (width, y + size + _GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for (left, top), text, (_, _, colour) in zip(places, texts, entries, strict=True):
        draw.rectangle((left, top, left + size, top + size), fill=tuple(colour.tolist()))
        draw.text((left + size + 4, top + size / 2), text, "black", font, anchor="lm")
    return np.asarray(canvas)


def write_numbers(classes: np.ndarray, number: int, path: str | os.PathLike[str]) -> None:
    """Classes (H, W) as a PNG of numbers, with a palette or, beyond 256 classes, of 16 bits."""
    if number > 256:
        write_png(Image.fromarray(classes.astype(np.uint16)), path)
        return
    picture = Image.fromarray(classes.astype(np.uint8), "P")
    picture.putpalette(class_colours(number).ravel().tolist())
    write_png(picture, path)
