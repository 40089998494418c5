"""Where the cells of a grid of features lie on the image, patches that overlap among them.

A cell lies where the middle of its patch does. Side by side, n cells share a side evenly; patches
that overlap leave a strip at both ends, which is nearest to the outermost cells and counts as
theirs. Plain arrays.
"""

from typing import NamedTuple

import numpy as np


class CellAxis(NamedTuple):
    """The cells along one side of an image.

    number: of cells. span: how many steps from cell to cell the side is long. first: the first
    cell's middle, in steps from the side's beginning. Shared evenly, span is number and first 0.5.
    """

    number: int
    span: float
    first: float

    def doubled(self) -> "CellAxis":
        """Of cells of half the size, two in the place of each."""
        return CellAxis(2 * self.number, 2 * self.span, 2 * self.first - 0.5)

    def places_of(self, pixels: int) -> np.ndarray:
        """Where the middles of a side's `pixels` lie among the cells: (pixels,) float64.

        i is the middle of cell i. Before the first one is 0, behind the last one more than it.
        """
        return np.maximum((np.arange(pixels) + 0.5) * self.span / pixels - self.first, 0.0)

    def nearest_to(self, pixels: int) -> np.ndarray:
        """The cell whose middle is nearest to each pixel's: (pixels,) int."""
        where = (np.arange(pixels) + 0.5) * self.span / pixels + (0.5 - self.first)
        return np.clip(np.floor(where).astype(int), 0, self.number - 1)

    def cell_at(self, share: float) -> int:
        """The cell nearest to a place on the side, a share from 0 to 1."""
        where = int(np.floor(share * self.span + (0.5 - self.first)))
        return min(max(where, 0), self.number - 1)

    def edges(self, pixels: float) -> np.ndarray:
        """Where cells begin and end on a side of `pixels`: (number + 1,) float64, first 0."""
        inner = (np.arange(self.number + 1) + (self.first - 0.5)) * (pixels / self.span)
        return np.concatenate([[0.0], inner[1:-1], [float(pixels)]])

    def middles(self) -> np.ndarray:
        """Where cells' middles lie, as shares of the side: (number,) float64."""
        return (np.arange(self.number) + self.first) / self.span

    def weights(self, of: "CellAxis") -> np.ndarray:
        """How much each cell counts for each of another axis: (of.number, number) float32.

        Bilinear, antialiased where the other's cells are larger.
        """
        shrink = max(self.span / of.span, 1.0)
        where = np.clip(of.middles() * self.span - self.first, 0, self.number - 1)
        distance = np.abs(where[:, None] - np.arange(self.number)) / shrink
        weights = np.maximum(1 - distance, 0)
        return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


class CellPlaces(NamedTuple):
    """The cells of a grid (h, w): along the height and along the width."""

    rows: CellAxis
    columns: CellAxis

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w)."""
        return self.rows.number, self.columns.number

    @property
    def even_grid(self) -> tuple[int, int]:
        """(h, w) of cells of about this size that share the image evenly."""
        return round(self.rows.span), round(self.columns.span)

    def doubled(self) -> "CellPlaces":
        """Of a grid twice as fine."""
        return CellPlaces(self.rows.doubled(), self.columns.doubled())

    def spread(self, values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Values (h, w, …) of the cells as a picture (H, W, …): each pixel that of its cell."""
        rows, columns = (axis.nearest_to(n) for axis, n in zip(self, size, strict=True))
        return np.asarray(values)[rows[:, None], columns]

    def middles(self, cells: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """The middles (N, 2), x and y in pixels, of cells (N, 2), row and column.

        size: the image's (height, width).
        """
        down, across = (axis.middles() * n for axis, n in zip(self, size, strict=True))
        return np.stack([across[cells[:, 1]], down[cells[:, 0]]], axis=1)

    def resized(self, values: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, "CellPlaces"]:
        """Values (h, w, …) float at cells of another grid that share the image evenly, bilinear.

        And where those lie. Beyond the outermost middles are the outermost values.
        """
        even = even_places(grid)
        rows, columns = (axis.weights(other) for axis, other in zip(self, even, strict=True))
        return np.einsum("yh,xw,hw...->yx...", rows, columns, values, optimize=True), even

    def to_even(self, values: np.ndarray) -> np.ndarray:
        """Values (h, w, …) float at the middles of `even_grid`, bilinear; evenly shared, the same.

        For what is worked out on such a grid as published.
        """
        values = np.asarray(values)
        if (self.rows, self.columns) == even_places(self.grid):
            return values
        return self.resized(values, self.even_grid)[0]


def even_axis(number: int) -> CellAxis:
    """Cells that share a side evenly."""
    return CellAxis(number, number, 0.5)


def even_places(grid: tuple[int, int]) -> CellPlaces:
    """Cells (h, w) that share an image evenly, as patches side by side do."""
    return CellPlaces(even_axis(grid[0]), even_axis(grid[1]))


def patch_places(image_size: tuple[int, int], patch: int, stride: int | None = None) -> CellPlaces:
    """The cells of an image of (height, width) pixels in patches of `patch` pixels.

    stride: pixels from one patch to the next; None = side by side.
    """
    step = stride or patch
    axes = (CellAxis(1 + (n - patch) // step, n / step, patch / (2 * step)) for n in image_size)
    return CellPlaces(*axes)


def places_or_even(places: CellPlaces | None, grid: tuple[int, int]) -> CellPlaces:
    """The places of a grid (h, w), shared evenly where they aren't given. ValueError for others."""
    if places is None:
        return even_places(grid)
    if places.grid != tuple(grid):
        raise ValueError(f"places: of a grid {places.grid}, and features have {tuple(grid)}")
    return places
