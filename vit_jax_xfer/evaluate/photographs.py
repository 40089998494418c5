"""Photographs squashed to squares, and an extractor's features of a few of them at a time."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from vit_jax_xfer.arguments.array_checks import require_finite
from vit_jax_xfer.data.images import resize
from vit_jax_xfer.data.sources.upright_photo import read_photograph
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.cell_places import CellPlaces, places_or_even

_PIXELS = 8 * 224**2  # of one batch


def places_of(extractor: FeatureExtractor, grid: tuple[int, int], side: int) -> CellPlaces:
    """Where the cells (h, w) of an extractor's features lie on photographs of side × side pixels.

    Of one that doesn't say, they share it evenly.
    """
    told = getattr(extractor, "places", None)
    return places_or_even(told((side, side)) if told else None, grid)


def squashed(photo: np.ndarray, side: int) -> np.ndarray:
    """A photograph uint8 (H, W, 3) → (side, side, 3), bilinear as Pillow does it, all of it."""
    if photo.shape[:2] == (side, side):
        return photo
    return np.asarray(resize(photo, side, side, "bilinear"))


def read_squashed(file: Path, side: int) -> np.ndarray:
    """The same of an image file. ValueError naming it where it can't be read."""
    return squashed(read_photograph(file), side)


def batches(items: Sequence, side: int) -> Iterator[Sequence]:
    """As many of the items at a time as photographs of side × side pixels are a good batch."""
    size = batch_size(side)
    for start in range(0, len(items), size):
        yield items[start : start + size]


def batch_size(side: int) -> int:
    """How many photographs of side × side pixels go through a network at once."""
    return max(1, _PIXELS // side**2)


def features_of(
    extractor: FeatureExtractor,
    photos: Sequence[np.ndarray],
    files: Sequence[Path] = (),
    batch: int | None = None,
) -> np.ndarray:
    """Features (N, h, w, C) float32 of photographs uint8 (side, side, 3), N up to `batch_size`.

    A short batch is filled up, so that one compilation serves. files: the photographs' own, one of
    which a ValueError names where its features are NaN or infinite. batch: in place of that size.
    """
    missing = (batch or batch_size(len(photos[0]))) - len(photos)
    filled = np.stack([*photos, *[np.zeros_like(photos[0])] * missing])
    found = np.asarray(extractor(filled))[: len(photos)]
    for file, features in zip(files, found, strict=False):
        require_finite(f"{file}: features", features)
    return found
