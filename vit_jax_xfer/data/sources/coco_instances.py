"""COCO's instances: one JSON with images, categories, and objects with boxes and outlines.

Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv 1405.0312.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax_xfer.data.objects import Outline
from vit_jax_xfer.data.sources.decode import MAX_PIXELS
from vit_jax_xfer.data.sources.named_files import read_json
from vit_jax_xfer.data.sources.object_source import (
    ListedPhotograph,
    ObjectSource,
    check_split,
    make_object_source,
)
from vit_jax_xfer.data.sources.upright_photo import stored_size

_LARGEST = 2**30  # bytes; that of train2017 has half as many
_SPLITS = {"train": "train", "validation": "val", "val": "val", "test": "test"}
_WHAT = "expected COCO's instances"


def open_coco_instances(spec: str, split: str) -> ObjectSource:
    """Opens ROOT (annotations/instances_train2017.json, train2017, …) or JSON:IMAGES.

    Of ROOT a split is "train" or "validation" ("val"). A JSON alone is of the split that its name
    tells, else "train"; "all" is always right. Boxes end inside the image; see `check_boxes`.
    Images without objects stay. ValueError naming the file for all else that is wrong.
    """
    parts = re.fullmatch(r"(.+?\.json):(.+)", spec)
    if parts:
        file, folder = Path(parts[1]).expanduser(), Path(parts[2]).expanduser()
        check_split(split, (*_told_by(file), "all"), str(file))
    else:
        file, folder = _of_root(Path(spec).expanduser(), split)
    if not folder.is_dir():
        raise ValueError(f"spec: {folder}: no such folder of images")
    return read_instances(file, folder, f"coco:{spec}/{split}")


def read_instances(file: Path, folder: Path, name: str) -> ObjectSource:
    """The objects of a JSON, on the images of a folder."""
    try:
        content = read_content(file)
        ids, names = _categories(file, content)
        photographs = _photographs(file, content, folder)
        _add_objects(file, content, photographs, {number: i for i, number in enumerate(ids)})
    except ValueError as error:
        raise ValueError(f"spec: {error}") from None
    return make_object_source(list(photographs.values()), names, name, category_ids=ids)


def read_content(file: Path) -> dict[str, Any]:
    """What the JSON holds, with lists "images" and "annotations". ValueError naming it."""
    if not file.is_file():
        raise ValueError(f"{file}: no such file")
    try:
        content = read_json(file, _LARGEST)
    except ValueError as error:
        raise ValueError(f"{file}: is not JSON: {error}") from None
    for name in ("images", "annotations"):
        if not isinstance(content, dict) or not isinstance(content.get(name), list):
            raise ValueError(f"{file}: has no list {name!r}; {_WHAT}")
    return content


def field(file: Path, one: Any, name: str) -> Any:
    """A plain field of an entry. ValueError where it has none."""
    if not isinstance(one, dict) or isinstance(one.get(name), dict | list | None):
        raise ValueError(f"{file}: an entry has no {name!r}; {_WHAT}")
    return one[name]


def box_of(file: Path, one: dict[str, Any]) -> list[float]:
    """An annotation's (x, y, width, height), as numbers."""
    try:
        x, y, width, height = (float(number) for number in one["bbox"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{file}: the annotation of image {one['image_id']} has bbox {one.get('bbox')!r}; "
            "expected four numbers"
        ) from None
    return [x, y, width, height]


def listed_image(folder: Path, name: str) -> Path:
    """The file in the folder: a path that leads out of it counts by its last part."""
    path = Path(name)
    inside = not path.is_absolute() and ".." not in path.parts
    return folder / path if inside and (folder / path).is_file() else folder / path.name


def _told_by(file: Path) -> tuple[str, ...]:
    """The split of which a JSON's name speaks, "train" where it speaks of none."""
    words = re.findall("train|val|test", file.stem)
    if not words:
        return ("train",)
    return tuple(name for name, word in _SPLITS.items() if word == words[-1])


def _of_root(root: Path, split: str) -> tuple[Path, Path]:
    """The JSON and the folder of images of a split."""
    folder = root / "annotations"
    if not folder.is_dir():
        raise ValueError(
            f"spec: {root}: has no folder annotations; expected coco:ROOT with COCO's layout, or "
            "coco:JSON:IMAGES"
        )
    found = sorted(folder.glob("instances_*.json"))
    word = _SPLITS.get(split, split)
    fits = [file for file in found if re.fullmatch(rf"instances_{re.escape(word)}\d*", file.stem)]
    if len(fits) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ValueError(
            f"split: got {split!r}, for which {folder} has {len(fits)} files; there are {names}"
        )
    return fits[0], root / fits[0].stem.removeprefix("instances_")


def _categories(file: Path, content: dict[str, Any]) -> tuple[list[int], list[str]]:
    """Ids, ascending, and names of the classes."""
    listed = content.get("categories")
    if not isinstance(listed, list) or not listed:
        raise ValueError(f"{file}: has no list 'categories'; {_WHAT}")
    names = {field(file, one, "id"): str(field(file, one, "name")) for one in listed}
    if len(names) < len(listed):
        raise ValueError(f"{file}: two categories have one id")
    if not all(type(number) is int for number in names):
        raise ValueError(f"{file}: a category's id is no whole number; {_WHAT}")
    return sorted(names), [names[number] for number in sorted(names)]


def _photographs(file: Path, content: dict[str, Any], folder: Path) -> dict[Any, ListedPhotograph]:
    """The images by id, in the file's order."""
    found: dict[Any, ListedPhotograph] = {}
    for one in content["images"]:
        number = field(file, one, "id")
        if number in found:
            raise ValueError(f"{file}: two images have the id {number}")
        path = listed_image(folder, str(field(file, one, "file_name")))
        sides = one.get("height"), one.get("width")
        if sides == (None, None):
            width, height = stored_size(path)
            sides = height, width
        whole = all(type(side) is int and side > 0 for side in sides)
        if not whole or sides[0] * sides[1] > MAX_PIXELS:
            raise ValueError(f"{file}: image {number} has height and width {sides}")
        found[number] = ListedPhotograph(path, sides, number=number)
    return found


def _add_objects(
    file: Path,
    content: dict[str, Any],
    photographs: dict[Any, ListedPhotograph],
    labels: dict[int, int],
) -> None:
    for one in content["annotations"]:
        number = field(file, one, "image_id")
        if number not in photographs:
            raise ValueError(f"{file}: an annotation is of image {number!r}, which is not listed")
        category = field(file, one, "category_id")
        if category not in labels:
            raise ValueError(
                f"{file}: an annotation has category {category!r}, which is not listed"
            )
        photograph = photographs[number]
        x, y, width, height = box_of(file, one)
        photograph.boxes.append([x, y, x + width, y + height])
        photograph.labels.append(labels[category])
        photograph.crowd.append(bool(one.get("iscrowd")))
        photograph.areas.append(_area(file, one, width * height))
        photograph.outlines.append(_outline(file, one, photograph.size))


def _area(file: Path, one: dict[str, Any], of_box: float) -> float:
    area = one.get("area", of_box)
    if not isinstance(area, int | float) or not np.isfinite(area) and np.isfinite(of_box):
        raise ValueError(f"{file}: the annotation of image {one['image_id']} has area {area!r}")
    return float(area)


def _outline(file: Path, one: dict[str, Any], size: tuple[int, int]) -> Outline:
    """Polygons of three corners or more, run lengths of the image's size, or None."""
    given = one.get("segmentation")
    where = f"{file}: the annotation of image {one['image_id']}"
    if not given:
        return None
    if isinstance(given, dict):
        counts = given.get("counts")
        if given.get("size") != list(size) or not isinstance(counts, list | str):
            raise ValueError(
                f"{where} has run lengths for {given.get('size')}, and the image has {list(size)}"
            )
        return {"size": list(size), "counts": _run_counts(where, counts, size)}
    try:
        rings = [np.array(ring, np.float64).reshape(-1, 2) for ring in given]
    except (TypeError, ValueError):
        raise ValueError(f"{where} has a segmentation that is no list of polygons") from None
    if not all(np.isfinite(ring).all() for ring in rings):
        raise ValueError(f"{where} has a polygon with a corner that is no number")
    return tuple(ring for ring in rings if len(ring) >= 3) or None


def _run_counts(where: str, counts: Any, size: tuple[int, int]) -> Any:
    """Run lengths that fill the image exactly. pycocotools writes past its memory by others."""
    runs = counts if isinstance(counts, list) else unpacked(counts)
    whole = all(type(run) is int and run >= 0 for run in runs)
    if not whole or sum(runs) != size[0] * size[1]:
        raise ValueError(f"{where} has run lengths that don't fill {size[0]}×{size[1]} pixels")
    return counts


def unpacked(text: str) -> list[int]:
    """The run lengths of COCO's compressed text: six bits a letter, from the third on differences.

    [] for what is none, which fills no image.
    """
    if not text.isascii():
        return []
    runs: list[int] = []
    value = shift = 0
    for letter in text.encode("ascii"):
        bits = letter - 48
        if not 0 <= bits < 64 or shift > 60:
            return []
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    return [] if shift else runs
