"""Kept cells and importance laid over a picture: each of its pixels gets the cell it lies in."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vit_jax_xfer.explain.cells import Axis, Cells
from vit_jax_xfer.explain.colour_scales import heat

Box = tuple[float, float, float, float]  # top, left, bottom, right, in pixels of a picture

MARK = np.array((60, 255, 120), np.uint8)  # around what is kept
_DIM = 0.42  # brightness of what is not kept
_UNSEEN = 0.2  # and of what no cell covers
_HEAT = 0.7  # the heat's share over the image
_UNDER = 0.85  # brightness of the image under it
_FINE = 6.0  # cells narrower than this are not framed, which would cover them


def paint_kept(
    picture: np.ndarray, mask: np.ndarray, cells: Cells, box: Box | None = None
) -> np.ndarray:
    """The picture (H, W, 3) uint8 as it is in kept cells, framed; grey and dark elsewhere.

    Darkest is what no cell covers. Cells that a frame would cover have none.
    mask: (h, w) bool. box: where in the picture the network's image lies; None = all of it.
    """
    size = picture.shape[:2]
    kept, seen = (spread(x, cells, size, box, False) for x in (mask, np.ones_like(mask)))
    painted = np.where(seen[..., None], _grey(picture, _DIM), _grey(picture, _UNSEEN))
    painted[kept] = picture[kept]
    painted[kept & ~_inside(kept, cells, size, box)] = MARK
    return painted


def paint_importance(
    picture: np.ndarray,
    importance: np.ndarray,
    cells: Cells,
    box: Box | None = None,
    low: float | None = None,
    high: float | None = None,
) -> np.ndarray:
    """The picture (H, W, 3) uint8 in grey under the importance (h, w) as heat, each cell evenly.

    low, high: what is darkest and lightest; None = the least and greatest there are. box: as above.
    """
    return paint_colours(picture, heat(importance, low, high), cells, box)


def paint_colours(
    picture: np.ndarray,
    colours: np.ndarray,
    cells: Cells,
    box: Box | None = None,
    shown: np.ndarray | None = None,
) -> np.ndarray:
    """The picture (H, W, 3) uint8 in grey under the colours (h, w, 3) uint8 of its cells.

    Darkest is what no cell covers. shown: (h, w) bool, which cells have a colour; None = all.
    """
    size = picture.shape[:2]
    over = spread(colours, cells, size, box, 0)
    seen = spread(np.ones(cells.shape, bool), cells, size, box, False)
    under = _grey(picture, _UNDER)
    mixed = np.asarray(Image.blend(Image.fromarray(under), Image.fromarray(over), _HEAT))
    if shown is not None:
        mixed = np.where(spread(shown, cells, size, box, False)[..., None], mixed, under)
    return np.where(seen[..., None], mixed, _grey(picture, _UNSEEN))


def mark_point(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """The picture (H, W, 3) uint8 with a cross at a point in its pixels."""
    marked = Image.fromarray(picture)
    draw = ImageDraw.Draw(marked)
    reach = max(6, min(picture.shape[:2]) // 30)
    for colour, thick in (((0, 0, 0), 5), (tuple(MARK.tolist()), 3)):
        draw.line((x - reach, y, x + reach, y), fill=colour, width=thick)
        draw.line((x, y - reach, x, y + reach), fill=colour, width=thick)
    return np.asarray(marked)


def spread(
    values: np.ndarray,
    cells: Cells,
    size: tuple[int, int],
    box: Box | None = None,
    fill: object = 0,
) -> np.ndarray:
    """A map's values (h, w, …) on a picture of `size`: (H, W, …), `fill` where no cell is."""
    top, left, bottom, right = box or (0.0, 0.0, *size)
    height, width = cells.image_size
    rows = cells_of_pixels(cells.rows, height, size[0], top, bottom)
    columns = cells_of_pixels(cells.columns, width, size[1], left, right)
    padded = np.full((values.shape[0] + 1, values.shape[1] + 1, *values.shape[2:]), fill)
    padded = padded.astype(values.dtype)
    padded[:-1, :-1] = values
    return padded[rows][:, columns]  # index -1 is the fill


def cells_of_pixels(axis: Axis, side: int, pixels: int, start: float, end: float) -> np.ndarray:
    """The cell in which the middle of each of a picture's `pixels` lies: (pixels,) int, -1 in none.

    side: of the network's image, which lies from `start` to `end` in the picture.
    """
    edges = start + np.clip(axis.edges, 0, side) * ((end - start) / side)
    cell = np.searchsorted(edges, np.arange(pixels) + 0.5, side="right") - 1
    return np.where(cell < len(axis), cell, -1)


def _inside(kept: np.ndarray, cells: Cells, size: tuple[int, int], box: Box | None) -> np.ndarray:
    """What of the kept area (H, W) a frame leaves free."""
    top, left, bottom, right = box or (0.0, 0.0, *size)
    pitches = (
        (bottom - top) / cells.image_size[0] * np.diff(cells.rows.edges).mean(),
        (right - left) / cells.image_size[1] * np.diff(cells.columns.edges).mean(),
    )
    if min(pitches) < _FINE:
        return kept
    thick = 1 + int(min(min(pitches) / 12, max(size) / 600))
    shrunk = Image.fromarray(kept.astype(np.uint8)).filter(ImageFilter.MinFilter(2 * thick + 1))
    return np.asarray(shrunk).astype(bool)


def _grey(picture: np.ndarray, brightness: float) -> np.ndarray:
    """The picture without its colours: (H, W, 3) uint8."""
    grey = Image.fromarray(picture).convert("L").point(lambda value: value * brightness)
    return np.asarray(grey.convert("RGB"))
