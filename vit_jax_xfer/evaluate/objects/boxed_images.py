"""Images with boxes of the objects on them, as data sets of objects have them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.data.sources.upright_photo import orientation, photograph_size


@dataclasses.dataclass(frozen=True, eq=False)
class BoxedImage:
    """file: the image. boxes: (M, 4) float64 as (y0, x0, y1, x1) in its pixels, M = 0 for none.
    dropped: how many more boxes it has that don't count."""

    file: Path
    boxes: np.ndarray
    dropped: int = 0


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
    where: Path,
    images: Sequence[BoxedImage],
    sizes: Sequence[tuple[int, int] | None] = (),
) -> None:
    """ValueError where there are none, and naming those that are missing or broken.

    sizes: (width, height) that each one's boxes are for, None where nothing says it. Of an image
    that EXIF turns they must be those of the upright one.
    """
    if not images:
        raise ValueError(f"{where}: lists no images")
    if missing := [image.file for image in images if not image.file.is_file()]:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise ValueError(f"{missing[0]}{more}: {where} names it, but there is no such file")
    check_files([str(image.file) for image in images], str(where))
    for image, size in zip(images, sizes, strict=False):
        if size is not None and orientation(image.file) > 1:
            upright = photograph_size(image.file)
            if upright != size:
                raise ValueError(
                    f"{image.file}: is {upright[0]}×{upright[1]}, turned as its EXIF says, and its "
                    f"boxes are for {size[0]}×{size[1]}; save it without the orientation"
                )
