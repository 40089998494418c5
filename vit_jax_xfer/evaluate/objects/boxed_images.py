"""Images with boxes of the objects on them, as data sets of objects have them."""

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vit_jax_xfer.data.objects import require_pixels
from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.data.sources.upright_photo import orientation, photograph_size
from vit_jax_xfer.data.sources.voc_layout import fits


@dataclasses.dataclass(frozen=True, eq=False)
class BoxedImage:
    """file: the image. boxes: (M, 4) float64 as (y0, x0, y1, x1) in its pixels, M = 0 for none.
    dropped: how many more boxes it has that don't count. number: its id, where the layout has ids.
    listed: its name there."""

    file: Path
    boxes: np.ndarray
    dropped: int = 0
    number: int | str | None = None
    listed: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class BoxedImages:
    """A data set, opened and checked. tau: the published threshold of TokenCut's graph for it.

    dropped: what the boxes are that don't count, in words.
    """

    images: Sequence[BoxedImage]
    tau: float
    dropped: str


def checked_boxes(source: Path, boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Boxes (M, 4) float64. ValueError, naming the annotation, unless finite and in order."""
    array = np.asarray(boxes, np.float64).reshape(-1, 4)
    # NaN fails the comparison as well.
    good = np.isfinite(array).all(1) & (array[:, 2:] >= array[:, :2]).all(1)
    if not good.all():
        y0, x0, y1, x1 = array[~good][0]
        raise ValueError(
            f"{source}: a box from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}) ends before it starts or "
            "isn't finite"
        )
    return array


def check_boxed_images(
    where: Path, images: Sequence[BoxedImage], sizes: Sequence[tuple[int, int] | None]
) -> None:
    """ValueError where there are none, and naming those that are missing, broken or of other sizes.

    sizes: (width, height) that each one's boxes are for, None where nothing says it.
    """
    if not images:
        raise ValueError(f"{where}: lists no images")
    if missing := [image.file for image in images if not image.file.is_file()]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(f"{missing[0]}{more}: {where} names it, but there is no such file")
    check_files([str(image.file) for image in images], str(where))
    require_pixels(np.concatenate([image.boxes for image in images]), where)
    with ThreadPoolExecutor() as pool:  # waits for the disk
        for _ in pool.map(_check_size, images, sizes):
            pass


def _check_size(image: BoxedImage, size: tuple[int, int] | None) -> None:
    """ValueError where an image isn't of the size that its boxes are for; see `voc_layout.fits`."""
    width, height = photograph_size(image.file)
    turned = orientation(image.file) > 1
    told = size is not None and min(size) > 0
    _check_inside(image, (height, width))
    y1, x1 = image.boxes[:, 2:].max(0, initial=0.0)
    inside = x1 <= width + 1 and y1 <= height + 1
    if told and fits(size, (width, height), image.boxes[:, [1, 0, 3, 2]], turned):
        return
    if told or not inside:
        said = f"{width}×{height}{', turned as its EXIF says,' if turned else ''}"
        boxes = f"are for {size[0]}×{size[1]}" if told else f"reach ({x1:g}, {y1:g})"
        way = "save it without the orientation" if turned else "take the images they were drawn on"
        raise ValueError(f"{image.file}: is {said} and its boxes {boxes}; {way}")


def _check_inside(image: BoxedImage, sides: tuple[int, int]) -> None:
    """ValueError where nothing of a box is on its image, of (height, width)."""
    start, end = image.boxes[:, :2], image.boxes[:, 2:]
    outside = (start >= sides).any(1) | (end <= 0).any(1)
    if outside.any():
        y0, x0, y1, x1 = image.boxes[outside][0]
        raise ValueError(
            f"{image.file}: its box from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}) lies outside of it"
        )
