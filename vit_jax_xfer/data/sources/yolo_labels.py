"""YOLO's texts: a line for each object, its class and box, or corners, as shares of the image."""

from pathlib import Path
from typing import Any

import numpy as np

from vit_jax_xfer.data.sources.class_files import is_yaml, names_in, read_class_file, read_yaml
from vit_jax_xfer.data.sources.named_files import read_text
from vit_jax_xfer.data.sources.object_source import (
    ListedPhotograph,
    ObjectSource,
    make_object_source,
)
from vit_jax_xfer.data.sources.paired_folders import as_spec, find_pairs, folders_of_split
from vit_jax_xfer.data.sources.upright_photo import stored_size

_LARGEST = 2**24  # bytes of a text


def open_yolo(spec: str, split: str) -> ObjectSource:
    """Opens DATA.yaml, or IMAGES:LABELS:CLASSES.

    DATA.yaml: YOLO's, with `train`, `val` and `names`; texts lie where "labels" stands for the last
    "images" of a folder's path. IMAGES, LABELS: folders, with sub-folders train (train2017) and val
    (val2017) or without, which is a split "train"; CLASSES: as of `read_class_file`. A line is
    "class x y width height" of the box's middle, or "class x1 y1 x2 y2 x3 y3 …", an outline. An
    empty text is an image without objects; one without a text is left out. ValueError.
    """
    parts = spec.split(":")
    if len(parts) == 3:
        images, labels, names = (Path(part).expanduser() for part in parts)
        entries = _entries(names) if is_yaml(names) else None
        folders = folders_of_split(images, labels, split)
    elif len(parts) == 1:
        names = Path(spec).expanduser()
        entries = _entries(names)
        folders = _folders(names, entries, split)
    else:
        raise ValueError(f"spec: got {spec!r}, expected yolo:DATA.yaml or IMAGES:LABELS:CLASSES")
    with as_spec():
        found = find_pairs(*folders, ".txt")
    classes = read_class_file(names) if entries is None else names_in(names, entries)
    ids = sorted(classes)
    numbers = {number: label for label, number in enumerate(ids)}
    photographs = [_photograph(image, text, numbers) for image, text in found.files]
    return make_object_source(
        photographs,
        [classes[number] for number in ids],
        f"yolo:{spec}/{split}",
        category_ids=ids,
        left_out=found.said("a text"),
    )


def _entries(file: Path) -> dict[str, Any]:
    """A YAML's entries. ValueError where they say that texts hold keypoints, like outlines."""
    try:
        content = read_yaml(file)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"spec: {file}: {reason}") from None
    if "kpt_shape" in content:
        raise ValueError(
            f"spec: {file}: it has 'kpt_shape', so its texts hold keypoints behind each box; give "
            "texts of boxes or of outlines"
        )
    return content


def _folders(file: Path, content: dict[str, Any], split: str) -> tuple[Path, Path]:
    """The folders of a split's images and texts, by a YAML's entries."""
    name = {"validation": "val"}.get(split, split)
    if isinstance(content.get(name), list):
        raise ValueError(f"spec: {file}: its {name!r} is a list; give one folder of images")
    if not isinstance(content.get(name), str):
        known = ", ".join(key for key in ("train", "val", "test") if content.get(key))
        raise ValueError(f"split: got {split!r}, but {file} names folders of {known or 'no split'}")
    root = file.parent / str(content.get("path") or ".")
    images = root / content[name]
    parts = list(images.parts)
    if "images" not in parts:
        raise ValueError(f"spec: {file}: {images} has no folder 'images' in its path")
    place = len(parts) - 1 - parts[::-1].index("images")
    labels = Path(*parts[:place], "labels", *parts[place + 1 :])
    for folder in (images, labels):
        if not folder.is_dir():
            raise ValueError(f"spec: {folder}, which {file} means, is no folder")
    return images, labels


def _photograph(image: Path, text: Path, numbers: dict[int, int]) -> ListedPhotograph:
    try:
        width, height = stored_size(image)
        lines = read_text(text, _LARGEST).splitlines()
    except (OSError, ValueError) as error:
        raise ValueError(f"spec: {text}: {error}") from None
    listed = ListedPhotograph(image, (height, width), number=text.stem)
    for row, line in enumerate(lines, start=1):
        if line.strip():
            _add(listed, line.split(), numbers, f"spec: {text}, line {row}")
    return listed


def _add(listed: ListedPhotograph, words: list[str], numbers: dict[int, int], where: str) -> None:
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        raise ValueError(f"{where}: got {' '.join(words)[:60]!r}, expected numbers") from None
    if values[0] not in numbers:
        raise ValueError(f"{where}: class {words[0]} has no name")
    if len(values) != 5 and (len(values) < 7 or len(values) % 2 == 0):
        raise ValueError(
            f"{where}: {len(values)} numbers, expected a class with four, or with x, y of three "
            "corners or more"
        )
    sides = np.array(listed.size[::-1], np.float64)
    outline = None
    if len(values) == 5:
        middle, half = values[1:3] * sides, values[3:] * sides / 2
        box = np.concatenate([middle - half, middle + half])
    else:
        corners = values[1:].reshape(-1, 2) * sides
        box = np.concatenate([corners.min(0), corners.max(0)])
        outline = (corners,) if np.isfinite(corners).all() else None
    listed.boxes.append(box.tolist())
    listed.labels.append(numbers[int(values[0])])
    listed.outlines.append(outline)
