"""COCO's instances: one JSON with images, boxes and what they belong to.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv 1405.0312.
"""

import json
from pathlib import Path
from typing import Any

from vit_jax_xfer.evaluate.objects.boxed_images import (
    BoxedImage,
    BoxedImages,
    check_boxed_images,
    checked_boxes,
)

_TAU = 0.3  # TokenCut's on COCO20k


def open_coco(file: Path, folder: Path, names: Path | None = None) -> BoxedImages:
    """The images of a JSON in its order, those that `names` lists where it is given.

    What is marked iscrowd is left out, as by the protocol. Boxes are (x, y, width, height) there.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder")
    content = _read(file)
    files = {_field(file, one, "id"): str(_field(file, one, "file_name"))
             for one in content["images"]}  # fmt: skip
    if len(files) < len(content["images"]):
        raise ValueError(f"{file}: two images have one id")
    boxes: dict[Any, list[list[float]]] = {image: [] for image in files}
    crowds = dict.fromkeys(files, 0)
    wanted = _wanted(files, names, file) if names else set(files)
    for one in content["annotations"]:
        image = _field(file, one, "image_id")
        if image not in files:
            raise ValueError(f"{file}: an annotation is of image {image!r}, which is not listed")
        if one.get("iscrowd"):
            crowds[image] += 1
        else:
            boxes[image].append(_box(file, one))
    images = [
        BoxedImage(_image_file(folder, name), checked_boxes(file, boxes[image]), crowds[image])
        for image, name in files.items()
        if image in wanted
    ]
    check_boxed_images(names or file, images)
    return BoxedImages(tuple(images), _TAU, "crowds")


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: is not JSON: {error}") from None
    for name in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise ValueError(f"{file}: has no list {name!r}; expected COCO's instances")
    return content


def _field(file: Path, one: Any, name: str) -> Any:
    if not isinstance(one, dict) or isinstance(one.get(name), dict | list | None):
        raise ValueError(f"{file}: an entry has no {name!r}; expected COCO's instances")
    return one[name]


def _box(file: Path, one: dict[str, Any]) -> list[float]:
    try:
        x, y, width, height = (float(number) for number in one["bbox"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{file}: the annotation of image {one['image_id']} has bbox {one.get('bbox')!r}; "
            "expected four numbers"
        ) from None
    return [y, x, y + height, x + width]


def _wanted(files: dict[Any, str], names: Path, file: Path) -> set[Any]:
    """The ids of the listed files; COCO20k's list has the split's folder before each name."""
    if not names.is_file():
        raise ValueError(f"{names}: no such file")
    by_name = {Path(name).name: image for image, name in files.items()}
    listed = [Path(line.strip()).name for line in names.read_text().splitlines() if line.strip()]
    if unknown := [name for name in listed if name not in by_name]:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise ValueError(f"{names}: {unknown[0]}{more}: not in {file}")
    return {by_name[name] for name in listed}


def _image_file(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).is_file() else folder / Path(name).name
