"""One image's features by several extractors on a sheet: what resembles a point, and components."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vit_jax_xfer.explain.colour_scales import heat
from vit_jax_xfer.explain.feature_pictures import colour_basis, pca_colours, self_similarity
from vit_jax_xfer.explain.overlay import mark_point
from vit_jax_xfer.explain.pictures import sheet

_TILE = 256  # pixels of a picture's longer side


def write_feature_sheet(
    path: Path,
    photo: np.ndarray,
    maps: Sequence[tuple[str, np.ndarray]],
    point: tuple[float, float] = (0.5, 0.5),
    heading: str = "",
) -> None:
    """A PNG: the photograph with the point, and for each (title, features (h, w, C)) two maps.

    Above, the cosine of each cell with the point's, from its own least to its greatest. Below, the
    first three components as colours, which mean the same wherever C is the same. photo: (H, W, 3)
    uint8, whose shape all get. point: (x, y) as shares.
    """
    tile = _marked(photo, point)
    bases = {
        width: colour_basis([x for _, x in maps if x.shape[-1] == width])
        for width in {features.shape[-1] for _, features in maps}
    }
    rows: list[list[np.ndarray | None]] = [[tile], [None]]
    captions = [[""], [""]]
    columns = [f"{photo.shape[0]} x {photo.shape[1]} pixels"]
    for title, features in maps:
        alike = self_similarity(features, point)
        rows[0].append(heat(alike))
        rows[1].append(pca_colours(features, bases[features.shape[-1]]))
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
