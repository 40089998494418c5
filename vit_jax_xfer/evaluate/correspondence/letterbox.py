"""A photograph in the middle of a black square, and where its points come to lie.

As LiFT's evaluation of correspondence prepares images (arXiv 2403.14625).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from vit_jax_xfer.data.images import resize
from vit_jax_xfer.data.sources.upright_photo import read_photograph


class Placement(NamedTuple):
    """scale: from the photograph's pixels to the square's. size, corner: (x, y) in the square."""

    scale: float
    size: tuple[int, int]
    corner: tuple[int, int]

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the photograph in the square."""
        return points * self.scale + np.asarray(self.corner)


def placement(size: tuple[int, int], side: int) -> Placement:
    """Where a photograph of (width, height) lies in a square: its long side fills it."""
    scale = side / max(size)
    width, height = (max(round(length * scale), 1) for length in size)
    return Placement(scale, (width, height), ((side - width) // 2, (side - height) // 2))


def letterbox(path: Path, side: int) -> np.ndarray:
    """A photograph as uint8 (side, side, 3), resized by Lanczos' filter. ValueError naming it."""
    photo = read_photograph(path)
    place = placement((photo.shape[1], photo.shape[0]), side)
    (width, height), (left, top) = place.size, place.corner
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + height, left : left + width] = resize(photo, height, width, "lanczos")
    return square
