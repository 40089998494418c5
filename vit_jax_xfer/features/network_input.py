"""Photographs as the commands on dense features give them to a network."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax_xfer.arguments.listed_values import plain
from vit_jax_xfer.data.prepare import are_several
from vit_jax_xfer.data.sources.upright_photo import read_photograph
from vit_jax_xfer.features.backbone import mean_std_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.features.feature_files import Sizing
from vit_jax_xfer.models.cell_places import CellPlaces


def prepare_photos(
    model: Any,
    photos: Any,
    size: int | tuple[int, int] | None = None,
    longest: int | None = None,
    stride: int | None = None,
) -> np.ndarray:
    """Whole photographs squashed to one size and normalised: (B, H, W, 3) float32.

    As `python -m vit_jax_xfer.features` prepares them, so that each cell of a map belongs to its
    place on the photograph; `vjx.preprocess` cuts the middle out, as for a classifier.
    photos: paths, uint8 arrays (h, w, 3), or a list of these. Files are turned as their EXIF
    orientation says. size: pixels, or (height, width); None = the model's own. longest: or else the
    aspect ratio is kept with about so many pixels on the longer side, in whole patches; of one
    shape, then. stride: as given to `descriptors`. ValueError naming what is wrong.
    """
    listed, size = list(photos) if are_several(photos) else [photos], plain(size)
    if not listed:
        raise ValueError("photos: got an empty list, expected at least one")
    encoder = model.encoder
    step = stride or encoder.patch_stride or encoder.patch_size
    own = None if longest else size or encoder.image_size
    sizing = Sizing(encoder.patch_size, own, longest, step != encoder.patch_size or not size)
    mean, std = (np.asarray(values, np.float32) for values in mean_std_of(encoder))
    given = [sizing(_pixels(photo, f"photos[{n}]")) for n, photo in enumerate(listed)]
    if len({one.shape for one in given}) > 1:
        shapes = sorted({one.shape[:2] for one in given})
        raise ValueError(f"longest: the photographs get {shapes}; prepare one shape at a time")
    return (np.stack(given).astype(np.float32) / 255 - mean) / std


def features_on(
    extractor: FeatureExtractor, sizing: Sizing, photo: np.ndarray, file: Path
) -> tuple[np.ndarray, CellPlaces]:
    """A photograph's features (h, w, C) float32, and where their cells lie on it.

    photo: uint8 (H, W, 3) of any size. ValueError naming the file for what is NaN or infinite.
    """
    given = sizing(photo)
    (features,) = np.asarray(extractor(given[None]))
    if bad := features.size - int(np.isfinite(features).sum()):
        raise ValueError(f"{file}: features: {bad} of {features.size} values are NaN or infinite")
    return features, extractor.places(given.shape[:2])


def _pixels(photo: Any, name: str) -> np.ndarray:
    if isinstance(photo, str | os.PathLike):
        return read_photograph(Path(photo))
    array = np.asarray(photo)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3 or not array.size:
        raise ValueError(
            f"{name}: got {array.dtype} of shape {array.shape}, expected a path or uint8 of shape "
            "(height, width, 3)"
        )
    return array
