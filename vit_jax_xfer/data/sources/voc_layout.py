"""PASCAL VOC's folders: Annotations/*.xml, JPEGImages, ImageSets, SegmentationClass.

Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010.
"""

import xml.etree.ElementTree as xml
from pathlib import Path

import numpy as np

from vit_jax_xfer.data.sources.decode import readable_suffixes
from vit_jax_xfer.data.sources.folder import EXTENSIONS
from vit_jax_xfer.data.sources.named_files import inside_folder, read_bytes, read_text
from vit_jax_xfer.data.sources.visible_files import visible

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
_EDGES = ("ymin", "xmin", "ymax", "xmax")


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


def all_names(folder: Path, ending: str) -> list[str]:
    """The names of a folder's files with an ending, small or capital, sorted."""
    files = visible(folder.iterdir(), folder)
    return [file.stem for file in files if file.suffix.lower() == ending]


def image_file(folder: Path, name: str, usual: str = ".jpg") -> Path:
    """The image of a name without suffix; with the usual one where there is none of any kind."""
    return file_of(folder, name, usual, *EXTENSIONS, *readable_suffixes())


def file_of(folder: Path, name: str, *endings: str) -> Path:
    """The first file of a name with one of the endings, small or, as cameras have it, capital.

    With the first ending where there is none.
    """
    paths = (folder / f"{name}{one}" for ending in endings for one in (ending, ending.upper()))
    return next((path for path in paths if path.is_file()), folder / f"{name}{endings[0]}")


def read_annotation(file: Path) -> xml.Element:
    """An annotation's root. ValueError naming a file that is missing or no XML."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        return xml.fromstring(_without_entities(read_bytes(file)))
    except (xml.ParseError, ValueError, LookupError) as error:
        raise ValueError(f"{file}: is not XML: {error}") from None


def box_of_object(file: Path, one: xml.Element) -> list[float]:
    """An object's box as xyxy from 0 on: VOC counts pixels from 1 and names a box's last ones.

    So 1 is taken off xmin and ymin.
    """
    texts = [one.findtext(f"bndbox/{edge}") for edge in _EDGES]
    try:
        y0, x0, y1, x1 = (float(text) for text in texts)
    except (TypeError, ValueError):
        found = ", ".join(f"{edge} {text}" for edge, text in zip(_EDGES, texts, strict=True))
        raise ValueError(f"{file}: an object's bndbox has {found}; expected numbers") from None
    return [x0 - 1, y0 - 1, x1, y1]


def size_of(annotation: xml.Element) -> tuple[int, int] | None:
    """(width, height) that an annotation's boxes are for; None where it says none, or 0."""
    texts = [annotation.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    if not all(text.isdecimal() and len(text) < 10 for text in texts):
        return None
    width, height = map(int, texts)
    return (width, height) if width and height else None


def fits(size: tuple[int, int], image: tuple[int, int], boxes: np.ndarray, turned: bool) -> bool:
    """Whether boxes (M, 4) xyxy that are for a size (width, height) are for an image of this one.

    Sides that are exchanged are let pass where no EXIF has turned the image and the boxes lie
    inside: some annotations of VOC's have them.
    """
    if size == image:
        return True
    inside = bool((boxes[:, 2:] <= np.array(image) + 1).all())
    return size == image[::-1] and inside and not turned


def is_marked(one: xml.Element, mark: str) -> bool:
    """Whether an object is "truncated" or "difficult"."""
    return one.findtext(mark, "0").strip() == "1"


def _without_entities(text: bytes) -> bytes:
    """The same. ValueError where it defines entities, a few of which can stand for gigabytes."""
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\0" in text:
        raise ValueError("it has a DOCTYPE, or is no UTF-8; expected VOC's annotations")
    return text
