"""What TokenCut found, drawn over the photograph: a picture an extractor and image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vit_jax_xfer.evaluate.folder_name import folder_name
from vit_jax_xfer.evaluate.objects.boxed_images import BoxedImage
from vit_jax_xfer.evaluate.objects.object_benchmark import FoundObject
from vit_jax_xfer.explain.cells import placed_cells
from vit_jax_xfer.explain.image_files import picture_names
from vit_jax_xfer.explain.overlay import paint_kept
from vit_jax_xfer.explain.pictures import write_png
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.cell_places import CellPlaces, places_or_even

TRUE, RIGHT, WRONG = (70, 170, 255), (255, 225, 0), (255, 60, 60)  # colours of the boxes
_LONGER_SIDE = 640  # of a picture, pixels


class Pictures:
    """Writes DIR/EXTRACTOR/IMAGE.png for each image; an object of it is a benchmark's `draw`.

    ValueError, before anything is written, where a picture exists already.
    """

    def __init__(
        self,
        folder: Path,
        extractors: Sequence[FeatureExtractor],
        images: Sequence[BoxedImage],
        overwrite: bool = False,
    ) -> None:
        files = [image.file for image in images]
        folders = _folder_names([extractor.name for extractor in extractors])
        names = dict(zip(files, picture_names(files), strict=True))
        self._paths = {
            (extractor.name, file): folder / inside / f"{name}.png"
            for extractor, inside in zip(extractors, folders, strict=True)
            for file, name in names.items()
        }
        there = [path for path in self._paths.values() if path.exists()]
        if there and not overwrite:
            raise ValueError(f"--pictures: {there[0]} exists already; --overwrite replaces it")

    def __call__(self, extractor: FeatureExtractor, found: FoundObject) -> None:
        path = self._paths[extractor.name, found.image.file]
        path.parent.mkdir(parents=True, exist_ok=True)
        mask, truths = np.asarray(found.discovery.mask), found.image.boxes
        write_png(
            draw_discovery(found.photo, mask, found.box, truths, found.right, found.places), path
        )


def draw_discovery(
    photo: np.ndarray,
    mask: np.ndarray,
    box: np.ndarray,
    truths: np.ndarray,
    right: bool,
    places: CellPlaces | None = None,
) -> np.ndarray:
    """The photograph (H, W, 3) uint8, dark outside the mask, with boxes; at most 640 pixels a side.

    mask: (h, w) bool in cells, which lie at `places`, None = evenly. box (4,) and truths (M, 4) as
    (y0, x0, y1, x1) in pixels of the photograph. True boxes are blue; the found one is yellow where
    it is right and red where not.
    """
    height, width = photo.shape[:2]
    scale = min(1.0, _LONGER_SIDE / max(height, width))
    sides = max(1, round(height * scale)), max(1, round(width * scale))
    small = np.asarray(Image.fromarray(photo).resize(sides[::-1], Image.Resampling.LANCZOS))
    places = places_or_even(places, mask.shape)
    picture = Image.fromarray(paint_kept(small, mask, placed_cells(places, sides)))
    draw = ImageDraw.Draw(picture)
    for edges, colour in [*((truth, TRUE) for truth in truths), (box, RIGHT if right else WRONG)]:
        y0, x0, y1, x1 = np.round(edges * np.tile(sides, 2) / np.tile((height, width), 2))
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour, width=3)
    return np.asarray(picture)


def _folder_names(names: Sequence[str]) -> list[str]:
    """The extractors' names as folders, all different."""
    plain = [folder_name(name) for name in names]
    return [f"{one}_{i}" if plain.count(one) > 1 else one for i, one in enumerate(plain, start=1)]
