"""COCO's instances: one JSON with images, boxes and what they belong to.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv 1405.0312.
"""

from pathlib import Path
from typing import Any

from vit_jax_xfer.data.sources.coco_instances import box_of, field, listed_image, read_content
from vit_jax_xfer.data.sources.named_files import read_text
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
    content = read_content(file)
    files = {field(file, one, "id"): str(field(file, one, "file_name"))
             for one in content["images"]}  # fmt: skip
    if len(files) < len(content["images"]):
        raise ValueError(f"{file}: two images have one id")
    boxes: dict[Any, list[list[float]]] = {image: [] for image in files}
    crowds = dict.fromkeys(files, 0)
    wanted = _wanted(files, names, file) if names else set(files)
    for one in content["annotations"]:
        image = field(file, one, "image_id")
        if image not in files:
            raise ValueError(f"{file}: an annotation is of image {image!r}, which is not listed")
        if one.get("iscrowd"):
            crowds[image] += 1
        else:
            x, y, width, height = box_of(file, one)
            boxes[image].append([y, x, y + height, x + width])
    images = [
        BoxedImage(
            listed_image(folder, name),
            checked_boxes(file, boxes[image]),
            crowds[image],
            image,
            name,
        )
        for image, name in files.items()
        if image in wanted
    ]
    sides = {one["id"]: (one.get("width"), one.get("height")) for one in content["images"]}
    sizes = [
        tuple(sides[image]) if all(isinstance(side, int) for side in sides[image]) else None
        for image in files
        if image in wanted
    ]
    check_boxed_images(names or file, images, sizes)
    return BoxedImages(tuple(images), _TAU, "crowds")


def _wanted(files: dict[Any, str], names: Path, file: Path) -> set[Any]:
    """The ids of the listed files, by their names in the JSON or else the last parts of these.

    COCO20k's list has the split's folder before each name.
    """
    if not names.is_file():
        raise ValueError(f"{names}: no such file")
    whole = {name: [image] for image, name in files.items()}
    by_last: dict[str, list[Any]] = {}
    for image, name in files.items():
        by_last.setdefault(Path(name).name, []).append(image)
    try:
        lines = [line.strip() for line in read_text(names).splitlines()]
    except ValueError as error:
        raise ValueError(f"{names}: {error}") from None
    listed = {line: whole.get(line) or by_last.get(Path(line).name, []) for line in lines if line}
    if unknown := [line for line, images in listed.items() if not images]:
        more = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise ValueError(f"{names}: {unknown[0]}{more}: not in {file}")
    if several := next((line for line, images in listed.items() if len(images) > 1), None):
        raise ValueError(
            f"{names}: {several}: may be any of {len(listed[several])} images of {file}; name it "
            "with its folder as there"
        )
    return {image for images in listed.values() for image in images}
