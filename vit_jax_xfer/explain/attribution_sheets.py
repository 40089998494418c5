"""Sheets of explained photographs: a row a photograph, a column a method, one scale a row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vit_jax_xfer.explain.colour_scales import Scale, number_text
from vit_jax_xfer.explain.explained_photos import Explained, Map
from vit_jax_xfer.explain.overlay import Box, paint_colours, paint_kept
from vit_jax_xfer.explain.pictures import sheet, write_png

_TILE = 224  # pixels of a picture's longer side
_HEAD_TILE = 128
_TOP = 99.5  # the percentile of a map's sizes that gets the last colour; few patches outshine all
_UNIT = {False: Scale(0.0, 1.0, open=True), True: Scale(-1.0, 1.0, signed=True, open=True)}


class AttributionSheet:
    """Collects rows; `write` makes a PNG of them.

    All maps of a row are on one scale, whose 1 is what one patch in 200 of a map exceeds; what that
    is stands below the map. Of a network with filter stages their masks follow, and below a map
    stands how much of it lies inside.
    """

    def __init__(self, stages: Sequence[int] = ()) -> None:
        self._stages = tuple(stages)
        self._rows: list[list[np.ndarray | None]] = []
        self._captions: list[list[str]] = []
        self._bars: list[list[Scale]] = []
        self._columns: list[str] = []
        self._cell = (0, 0)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, name: str, picture: np.ndarray, explained: Explained) -> None:
        """A row. picture: (H, W, 3) uint8, what the network saw."""
        tile = _tile(picture, _TILE)
        self._cell = tile.shape[:2]
        signs = {one.signed for one in explained.maps}
        over = [paint_map(tile, one) for one in explained.maps]
        masks = [paint_kept(tile, stage.mask, stage.cells) for stage in explained.stages]
        self._columns = ["as the network saw it", *(one.asked.title for one in explained.maps)]
        self._columns += [f"stage {stage} keeps" for stage in self._stages]
        self._rows.append([tile, *over, *masks])
        kept = [f"{100 * area:.0f} % of the image" for area in explained.areas]
        self._captions.append(
            [f"{name}  {explained.caption}", *map(_map_caption, explained.maps), *kept]
        )
        self._bars.append([_UNIT[sign] for sign in sorted(signs)])

    def write(self, path: Path, heading: str) -> None:
        """Writes the rows and forgets them."""
        sheet(self._rows, self._columns, path, cell=self._cell, captions=self._captions,
              bars=self._bars, heading=heading, font_size=13)  # fmt: skip
        self.__init__(self._stages)


class HeadSheet:
    """The same of how the heads of the last block look, with real shares as its scale."""

    def __init__(self) -> None:
        self._rows: list[list[np.ndarray | None]] = []
        self._captions: list[list[str]] = []
        self._bars: list[list[Scale]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, name: str, picture: np.ndarray, explained: Explained) -> None:
        """A row. picture: (H, W, 3) uint8, what the network saw."""
        tile, view = _tile(picture, _HEAD_TILE), explained.heads
        scale = Scale.of(view.maps, signed=False, top=_TOP)
        over = [paint_colours(tile, scale.colours(one), view.cells, shown=view.kept)
                for one in view.maps]  # fmt: skip
        self._rows.append([tile, *over])
        self._captions.append([name, *[""] * len(over)])
        self._bars.append([scale])

    def write(self, path: Path, heading: str) -> None:
        """Writes the rows and forgets them."""
        heads = range(max(len(row) for row in self._rows) - 1)
        columns = ["as the network saw it", *(f"head {head}" for head in heads)]
        sheet(self._rows, columns, path, cell=self._rows[0][0].shape[:2], captions=self._captions,
              bars=self._bars, heading=heading)  # fmt: skip
        self.__init__()


def map_scale(one: Map) -> Scale:
    """The scale of a map alone; the same map has the same colours wherever it is drawn."""
    return Scale.of([one.values], one.signed, _TOP)


def paint_map(picture: np.ndarray, one: Map, box: Box | None = None) -> np.ndarray:
    """A map over a picture (H, W, 3) uint8, (H, W, 3) uint8; box: as in `overlay`."""
    return paint_colours(picture, map_scale(one).colours(one.values), one.cells, box)


def write_overlay(path: Path, photo: np.ndarray, one: Map, box: Box) -> None:
    """A map over a photograph in its size; dark where the network saw nothing of it."""
    write_png(paint_map(photo, one, box), path)


def _map_caption(one: Map) -> str:
    text = f"1 = {number_text(map_scale(one).high)}"
    inside = [f"{100 * share:.0f}" for share in one.inside if share is not None]
    return f"{text}, {' and '.join(inside)} % inside" if inside else text


def _tile(picture: np.ndarray, side: int) -> np.ndarray:
    longer = max(picture.shape[:2])
    height, width = (max(1, round(side * n / longer)) for n in picture.shape[:2])
    smooth = Image.Resampling.NEAREST if side >= 3 * longer else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(picture).resize((width, height), smooth))
