"""COCO's instances: one JSON with images, boxes and what they belong to.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv 1405.0312.
"""

from pathlib import Path
from typing import Any

from vit_jax_xfer.data.sources.named_files import read_json, read_text
from vit_jax_xfer.evaluate.objects.boxed_images import (
    BoxedImage,
    BoxedImages,
    check_boxed_images,
    checked_boxes,
)

_LARGEST = 2**30  # bytes; that of train2017 has half as many
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
        content = read_json(file, _LARGEST)
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
    try:
        lines = [line.strip() for line in read_text(names).splitlines()]
    except ValueError as error:
        raise ValueError(f"{names}: {error}") from None
    listed = [Path(line).name for line in lines if line]
    if unknown := [name for name in listed if name not in by_name]:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise ValueError(f"{names}: {unknown[0]}{more}: not in {file}")
    return {by_name[name] for name in listed}


def _image_file(folder: Path, name: str) -> Path:
    """The file in the folder: a path that leads out of it counts by its last part."""
    path = Path(name)
    inside = not path.is_absolute() and ".." not in path.parts
    return folder / path if inside and (folder / path).is_file() else folder / path.name
