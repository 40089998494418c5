"""One image's features by several extractors on a sheet: what resembles a point, and components."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vit_jax_xfer.explain.colour_scales import heat
from vit_jax_xfer.explain.feature_pictures import colour_basis, pca_colours, self_similarity
from vit_jax_xfer.explain.overlay import mark_point
from vit_jax_xfer.explain.pictures import sheet
from vit_jax_xfer.models.cell_places import CellPlaces, places_or_even

_TILE = 256  # pixels of a picture's longer side

FeatureMap = tuple[str, np.ndarray] | tuple[str, np.ndarray, CellPlaces]


def write_feature_sheet(
    path: Path,
    photo: np.ndarray,
    maps: Sequence[FeatureMap],
    point: tuple[float, float] = (0.5, 0.5),
    heading: str = "",
) -> None:
    """A PNG: the photograph with the point, and for each (title, features (h, w, C)) two maps.

    A third of these says where cells lie, of patches that overlap; None = evenly. Above, the cosine
    of each cell with the point's, from its own least to its greatest. Below, the first three
    components as colours, which mean the same wherever C is the same. photo: (H, W, 3) uint8, whose
    shape all get. point: (x, y) as shares.
    """
    tile = _marked(photo, point)
    bases = {
        width: colour_basis([one[1] for one in maps if one[1].shape[-1] == width])
        for width in {one[1].shape[-1] for one in maps}
    }
    rows: list[list[np.ndarray | None]] = [[tile], [None]]
    captions = [[""], [""]]
    columns = [f"{photo.shape[0]} x {photo.shape[1]} pixels"]
    for title, features, *where in maps:
        places = places_or_even(where[0] if where else None, features.shape[:2])
        alike = self_similarity(features, point, places)
        rows[0].append(places.spread(heat(alike), tile.shape[:2]))
        colours = pca_colours(features, bases[features.shape[-1]])
        rows[1].append(places.spread(colours, tile.shape[:2]))
        captions[0].append(f"cosine {alike.min():.2f} to {alike.max():.2f}")
        captions[1].append(f"{features.shape[0]} x {features.shape[1]} cells")
        # Pillow's own font has no multiplication sign.
        columns.append(title.replace("×", "x"))
    sheet(
        rows, columns, path, cell=tile.shape[:2], captions=captions, heading=heading, font_size=15
    )


def _marked(photo: np.ndarray, point: tuple[float, float]) -> np.ndarray:
    """The photograph at the size of a tile with a cross at the point."""
    scale = _TILE / max(photo.shape[:2])
    height, width = (max(1, round(side * scale)) for side in photo.shape[:2])
    picture = Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS)
    return mark_point(np.asarray(picture), point[0] * width, point[1] * height)
