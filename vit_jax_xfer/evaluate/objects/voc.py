"""PASCAL VOC's folders: Annotations/*.xml, JPEGImages, ImageSets/Main.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010.
"""

import xml.etree.ElementTree as xml
from pathlib import Path

import numpy as np

from vit_jax_xfer.data.sources.folder import EXTENSIONS
from vit_jax_xfer.data.sources.named_files import inside_folder, read_bytes, read_text
from vit_jax_xfer.evaluate.objects.boxed_images import (
    BoxedImage,
    BoxedImages,
    check_boxed_images,
    checked_boxes,
)

_TAU = 0.2  # TokenCut's on VOC
_EDGES = ("ymin", "xmin", "ymax", "xmax")


def open_voc(path: Path, split: str = "", hard: bool = True) -> BoxedImages:
    """A folder with Annotations and JPEGImages; split, hard: as in `open_boxes`.

    VOC counts pixels from 1 and names a box's last ones, so 1 is taken off xmin and ymin.
    """
    root = devkit_folder(path, "Annotations")
    names = split_names(root, "Main", split) if split else None
    if names is None:
        names = sorted(file.stem for file in (root / "Annotations").glob("*.xml"))
    where = root / "ImageSets" / "Main" / f"{split}.txt" if split else root / "Annotations"
    images = []
    for name in names:
        boxes, left_out = _read_boxes(root / "Annotations" / f"{name}.xml", hard)
        images.append(BoxedImage(image_file(root / "JPEGImages", name), boxes, left_out))
    check_boxed_images(where, images)
    return BoxedImages(tuple(images), _TAU, "hard objects")


def devkit_folder(path: Path, inside: str) -> Path:
    """The folder itself, or the one year's in a VOCdevkit, that has a folder `inside`."""
    if not path.is_dir():
        raise ValueError(f"{path}: no such folder")
    for folder in (path, path / "VOCdevkit"):
        if (folder / inside).is_dir():
            return folder
        years = sorted(year for year in folder.glob("VOC*") if (year / inside).is_dir())
        if len(years) == 1:
            return years[0]
        if years:
            found = ", ".join(str(year) for year in years)
            raise ValueError(f"{path}: holds several data sets; name one of {found}")
    raise ValueError(f"{path}: has no folder {inside}; expected VOC's layout")


def split_names(root: Path, task: str, split: str) -> list[str]:
    """The names in ImageSets/`task`/`split`.txt, in their order."""
    folder = root / "ImageSets" / task
    file = folder / f"{split}.txt"
    if not file.is_file():
        there = ", ".join(sorted(one.stem for one in folder.glob("*.txt"))[:10]) or "none"
        raise ValueError(f"{file}: no such file; the splits are: {there}")
    try:
        lines = [line.split() for line in read_text(file).splitlines() if line.strip()]
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    if any(len(line) > 1 for line in lines):
        raise ValueError(f"{file}: is a list of one class; choose a split of all, as trainval")
    for line in lines:
        inside_folder(root, line[0], file)
    return [line[0] for line in lines]


def image_file(folder: Path, name: str) -> Path:
    """The image of a name without suffix; as .jpg where there is none of any kind."""
    endings = (ending for ending in EXTENSIONS if (folder / f"{name}{ending}").is_file())
    return folder / f"{name}{next(endings, '.jpg')}"


def _read_boxes(file: Path, hard: bool) -> tuple[np.ndarray, int]:
    """Boxes (M, 4) of an annotation, and how many hard ones were left out."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        objects = xml.fromstring(_without_entities(read_bytes(file))).findall("object")
    except (xml.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{file}: is not XML: {error}") from None
    kept = [one for one in objects if hard or not _is_hard(one)]
    boxes = [_box(file, one) for one in kept]
    return checked_boxes(file, boxes), len(objects) - len(kept)


def _without_entities(text: bytes) -> bytes:
    """The same. ValueError where it defines entities, a few of which can stand for gigabytes."""
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\0" in text:
        raise ValueError("it has a DOCTYPE, or is no UTF-8; expected VOC's annotations")
    return text


def _is_hard(one: xml.Element) -> bool:
    return any(one.findtext(mark, "0").strip() == "1" for mark in ("truncated", "difficult"))


def _box(file: Path, one: xml.Element) -> list[float]:
    texts = [one.findtext(f"bndbox/{edge}") for edge in _EDGES]
    try:
        y0, x0, y1, x1 = (float(text) for text in texts)
    except (TypeError, ValueError):
        found = ", ".join(f"{edge} {text}" for edge, text in zip(_EDGES, texts, strict=True))
        raise ValueError(f"{file}: an object's bndbox has {found}; expected numbers") from None
    return [y0 - 1, x0 - 1, y1, x1]
