"""Pictures of features that a command wrote: components of one image or of all, lengths, sheets."""

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from PIL import Image

from vit_jax_xfer.explain.colour_scales import Scale
from vit_jax_xfer.explain.feature_pictures import (
    ColourBasis,
    Foreground,
    colour_basis,
    foreground_of,
    pca_colours,
)
from vit_jax_xfer.explain.pictures import sheet
from vit_jax_xfer.models.cell_places import CellPlaces
from vit_jax_xfer.whole_files import naming_file

_TILE = 384  # pixels of a picture's longer side
_OUTLIER = 3.0  # times the median: longer features are called artefacts


class PictureChoice(NamedTuple):
    """joint: colours mean the same on all pictures. foreground: the share of the first component's
    range above which cells are coloured, others are black; None = all. norms: the features'
    lengths are drawn too."""

    joint: bool = False
    foreground: float | None = None
    norms: bool = False


class DrawnFeatures:
    """A picture for each image; those that share their colours wait for the last one.

    Used with `with`: what waits lies in a temporary folder meanwhile.
    """

    def __init__(self, choice: PictureChoice) -> None:
        self._choice = choice
        self._folder = tempfile.TemporaryDirectory(prefix="features")
        self._waiting: list[tuple[Path, np.ndarray, Path, CellPlaces, str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._folder.cleanup()

    def add(
        self, path: Path, photo: np.ndarray, features: np.ndarray, places: CellPlaces, name: str
    ) -> None:
        """Draws features (h, w, C) of a photograph (H, W, 3) uint8, or keeps them for `finish`."""
        tile = _shrunk(photo)
        if not self._choice.joint:
            self._draw(path, tile, features, places, name, *self._scale_of([features]))
            return
        kept = Path(self._folder.name) / f"{len(self._waiting)}.npy"
        packed = io.BytesIO()  # numpy's error of a full disk says nothing of it
        np.save(packed, features)
        with naming_file(kept):
            kept.write_bytes(packed.getbuffer())
        self._waiting.append((path, tile, kept, places, name))

    def finish(self) -> None:
        """Draws what waited."""
        if not self._waiting:
            return
        maps = [np.load(one[2], mmap_mode="r") for one in self._waiting]
        shared = self._scale_of(maps)
        for (path, tile, _, places, name), features in zip(self._waiting, maps, strict=True):
            self._draw(path, tile, np.asarray(features), places, name, *shared)

    def _scale_of(
        self, maps: Sequence[np.ndarray]
    ) -> tuple[ColourBasis, Foreground | None, Scale | None]:
        """What the colours of these maps mean."""
        front = None
        if self._choice.foreground is not None:
            front = foreground_of(maps, self._choice.foreground)
        masks = None if front is None else [front.mask(features) for features in maps]
        lengths = Scale.of([_lengths(x) for x in maps]) if self._choice.norms else None
        return colour_basis(maps, masks), front, lengths

    def _draw(
        self,
        path: Path,
        tile: np.ndarray,
        features: np.ndarray,
        places: CellPlaces,
        name: str,
        basis: ColourBasis,
        front: Foreground | None,
        scale: Scale | None,
    ) -> None:
        """The photograph, the components of its features and, if asked for, their lengths."""
        path.parent.mkdir(parents=True, exist_ok=True)
        h, w, channels = features.shape
        cell = tile.shape[:2]
        colours = pca_colours(features, basis)
        titles, captions = ["image", f"{h} x {w} features of {channels}"], ["", ""]
        if front is not None:
            mask = front.mask(features)
            colours = np.where(mask[..., None], colours, 0).astype(np.uint8)
            captions[1] = f"{100 * mask.mean():.0f} % foreground"
        pictures = [tile, places.spread(colours, cell)]
        if scale is not None:
            lengths = _lengths(features)
            pictures.append(places.spread(scale.colours(lengths), cell))
            titles.append("length of each feature")
            captions.append(said_of_lengths(lengths))
        sheet(
            [pictures], titles, path, cell=cell, heading=name, font_size=15,
            captions=[captions] if any(captions) else None,
            bars=[[scale]] if scale is not None else None,
        )  # fmt: skip


def said_of_lengths(lengths: np.ndarray) -> str:
    """Range of features' lengths (h, w), and how many stand out of them, as artefact tokens do.

    Darcet et al. 2023, "Vision Transformers Need Registers" (2309.16588).
    """
    number = int((lengths > _OUTLIER * np.median(lengths)).sum())
    return f"{lengths.min():.3g} to {lengths.max():.3g}, {number} above 3 medians"


def _lengths(features: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.asarray(features, np.float64), axis=-1)


def _shrunk(photo: np.ndarray) -> np.ndarray:
    """The photograph at the size of a tile."""
    scale = _TILE / max(photo.shape[:2])
    height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
    return np.asarray(Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS))
