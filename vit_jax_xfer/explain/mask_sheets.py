"""The pictures of one image's masks: a sheet of all stages, overlays one by one, and the arrays."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vit_jax_xfer.explain.cells import Cells
from vit_jax_xfer.explain.colour_scales import heat
from vit_jax_xfer.explain.kept_tokens import StageMask
from vit_jax_xfer.explain.network_view import seen_box
from vit_jax_xfer.explain.overlay import paint_importance, paint_kept
from vit_jax_xfer.explain.pictures import sheet, to_pixels, write_png
from vit_jax_xfer.explain.seen_photos import Seen
from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.whole_files import write_npz

_TILE, _LARGE_TILE = 448, 768  # a picture's longer side on a sheet, and an image's of many pixels
_PIXELS_SHOW = 3.0  # enlarged more than this, an image is not smoothed


@dataclasses.dataclass(frozen=True)
class MaskSheets:
    """Writes what was chosen on an image as files whose names begin with a given path.

    title: of the network. tile: pixels of a picture's longer side on the sheet; None = enough to
    see cells. overlays: each stage's pictures in the photograph's own size too. arrays: all numbers
    too, as .npz.
    low, high: importance that is darkest and lightest; None = each stage's own least and greatest.
    """

    stages: tuple[Cells, ...]
    scored: bool
    preprocessing: Preprocessing
    title: str = ""
    tile: int | None = None
    overlays: bool = False
    arrays: bool = False
    low: float | None = None
    high: float | None = None

    def files(self, path: Path) -> list[Path]:
        """All that `write` writes."""
        files = [_with(path, ".png")]
        if self.overlays:
            for cells in self.stages:
                files += [_with(path, f"_stage{cells.stage}_{what}.png") for what in self._kinds()]
        return [*files, _with(path, ".npz")] if self.arrays else files

    def write(self, path: Path, seen: Seen, chosen: Sequence[StageMask]) -> None:
        """Draws one image."""
        self._sheet(_with(path, ".png"), seen, chosen)
        if self.overlays:
            box = seen_box(self.preprocessing, seen.photo.shape[:2])
            for stage in chosen:
                for what in self._kinds():
                    picture = self._painted(what, seen.photo, stage, box)
                    write_png(picture, _with(path, f"_stage{stage.cells.stage}_{what}.png"))
        if self.arrays:
            write_npz(_with(path, ".npz"), self._numbers(seen, chosen), compressed=True)

    def _kinds(self) -> tuple[str, ...]:
        return ("kept", "importance") if self.scored else ("kept",)

    def _sheet(self, path: Path, seen: Seen, chosen: Sequence[StageMask]) -> None:
        height, width = seen.prepared.shape[:2]
        longer = max(height, width)
        scale = (self.tile or min(max(longer, _TILE), _LARGE_TILE)) / longer
        cell = (max(1, round(height * scale)), max(1, round(width * scale)))
        smooth = Image.Resampling.NEAREST if scale >= _PIXELS_SHOW else Image.Resampling.LANCZOS
        image = Image.fromarray(self._pixels(seen)).resize(cell[::-1], smooth)
        tile = np.asarray(image)
        rows: list[list[np.ndarray | None]] = [[tile], [_scale_bar(cell)]][: len(self._kinds())]
        captions = [["as the network saw it"], ["importance: low to high"]][: len(rows)]
        for stage in chosen:
            for row, caption, what in zip(rows, captions, self._kinds(), strict=True):
                row.append(self._painted(what, tile, stage))
                caption.append(_caption(what, stage))
        # Pillow's own font has no multiplication sign and no dash.
        columns = [f"{height} x {width} pixels"]
        for stage in chosen:
            rows_of_map, columns_of_map = stage.cells.shape
            columns.append(f"stage {stage.cells.stage}: {rows_of_map} x {columns_of_map}")
        heading = f"{seen.file.name}    {self.title}"
        sheet(rows, columns, path, cell=cell, captions=captions, heading=heading, font_size=15)

    def _painted(self, what: str, picture: np.ndarray, stage: StageMask, box: Any = None) -> Any:
        if what == "kept":
            return paint_kept(picture, stage.mask, stage.cells, box)
        return paint_importance(
            picture, stage.importance, stage.cells, box, low=self.low, high=self.high
        )

    def _pixels(self, seen: Seen) -> np.ndarray:
        return to_pixels(seen.prepared, self.preprocessing.mean, self.preprocessing.std)

    def _numbers(self, seen: Seen, chosen: Sequence[StageMask]) -> dict[str, np.ndarray]:
        """What the .npz holds, by name; docs in `filter_masks`."""
        box = seen_box(self.preprocessing, seen.photo.shape[:2])
        numbers = {"image": self._pixels(seen), "box": np.array(box)}
        for stage in chosen:
            name = f"stage{stage.cells.stage}"
            numbers[f"{name}_kept"] = stage.kept
            if stage.importance is not None:
                numbers[f"{name}_importance"] = stage.importance
            for side, axis in (("row", stage.cells.rows), ("column", stage.cells.columns)):
                for field in ("centres", "edges", "seen"):
                    numbers[f"{name}_{side}_{field}"] = getattr(axis, field)
        return numbers


def _caption(what: str, stage: StageMask) -> str:
    if what == "importance":
        return f"importance {stage.importance.min():.3f} to {stage.importance.max():.3f}"
    tokens = stage.cells.shape[0] * stage.cells.shape[1]
    return f"{'drawn' if stage.importance is None else 'kept'}: {len(stage.kept)} of {tokens}"


def _scale_bar(cell: tuple[int, int]) -> np.ndarray:
    """A white tile with the colours of `heat` along its lower border."""
    bar = np.full((*cell, 3), 255, np.uint8)
    thick = max(1, min(24, cell[0] // 4))
    bar[-thick:] = heat(np.linspace(0, 1, cell[1])[None])
    return bar


def _with(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)
