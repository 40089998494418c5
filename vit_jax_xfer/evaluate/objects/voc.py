"""Boxes of PASCAL VOC's objects, for benchmarks of object discovery."""

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from vit_jax_xfer.data.sources.voc_layout import (
    all_names,
    box_of_object,
    devkit_folder,
    file_of,
    image_file,
    is_marked,
    read_annotation,
    size_of,
    split_names,
)
from vit_jax_xfer.evaluate.objects.boxed_images import (
    BoxedImage,
    BoxedImages,
    check_boxed_images,
    checked_boxes,
)

_TAU = 0.2  # TokenCut's on VOC


def open_voc(path: Path, split: str = "", hard: bool = True) -> BoxedImages:
    """A folder with Annotations and JPEGImages; split, hard: as in `open_boxes`."""
    root = devkit_folder(path, "Annotations")
    names = split_names(root, "Main", split) if split else None
    if names is None:
        names = all_names(root / "Annotations", ".xml")
    where = root / "ImageSets" / "Main" / f"{split}.txt" if split else root / "Annotations"
    images, sizes = [], []
    for name in names:
        boxes, left_out, size = _read_boxes(file_of(root / "Annotations", name, ".xml"), hard)
        images.append(BoxedImage(image_file(root / "JPEGImages", name), boxes, left_out))
        sizes.append(size)
    check_boxed_images(where, images, sizes)
    return BoxedImages(tuple(images), _TAU, "hard objects")


def _read_boxes(file: Path, hard: bool) -> tuple[np.ndarray, int, tuple[int, int] | None]:
    """Boxes (M, 4) of an annotation, how many hard ones were left out, its (width, height)."""
    annotation = read_annotation(file)
    objects = annotation.findall("object")
    kept = [one for one in objects if hard or not _is_hard(one)]
    boxes = [[y0, x0, y1, x1] for x0, y0, x1, y1 in (box_of_object(file, one) for one in kept)]
    return checked_boxes(file, boxes), len(objects) - len(kept), size_of(annotation)


def _is_hard(one: Element) -> bool:
    return is_marked(one, "truncated") or is_marked(one, "difficult")
