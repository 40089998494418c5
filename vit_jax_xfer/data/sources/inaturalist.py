"""iNaturalist's competition sets: the images that a JSON file lists, labelled by category number.

Source: the READMEs of github.com/visipedia/inat_comp, 2017 to 2021 (1707.06642, 2103.16483).
"""

import dataclasses
import os
import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vit_jax_xfer.data.sources.folder import FolderSource
from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.data.sources.named_files import inside_folder, read_json

_LARGEST = 4 * 2**30  # bytes; the list of 2021 names 2.7 million images
_NAMED = 3  # of what is missing
_TRIED = 100  # images, for one that is there


@dataclasses.dataclass(frozen=True)
class PublishedSet:
    """How many classes a year has, and images a split; of 2019 only train + val is published."""

    classes: int
    images: Mapping[str, int]
    train_and_val: int = 0


YEARS = {
    "2017": PublishedSet(5_089, {"train": 579_184, "val": 95_986}),
    "2018": PublishedSet(8_142, {"train": 437_513, "val": 24_426}),
    "2019": PublishedSet(1_010, {}, train_and_val=268_243),
    "2021": PublishedSet(10_000, {"train": 2_686_843, "train_mini": 500_000, "val": 100_000}),
}


def open_inaturalist(path: str, split: str, year: str, whole: bool = False) -> FolderSource:
    """Opens a split of a year's set in the folder PATH, which holds its JSON files and images.

    split: "train", "val" (or "validation"), of 2021 "train_mini" too: the file train2018.json, or
    train.json as 2021's are called, in PATH or PATH/annotations. Labels are the ranks of category
    numbers, which are the numbers themselves where these run from 0 on, as published. Class names
    are those of a categories.json beside the file, by which the names of 2018 and 2019 were
    published later, else the file's. Images lie in PATH as the file names them, with or without
    the first folder. left_out: images that are not there, and another number than published.
    whole: these are errors. ValueError that names the file, too, for what is no such set.
    """
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise ValueError(f"spec: folder {path!r} does not exist")
    split = "val" if split == "validation" else split
    file = _list_file(root, split, year)
    found = _read_list(file)
    names = _class_names(found["categories"], file, root)
    labelled, without = _labelled(found, file)
    if not labelled:
        raise ValueError(f"spec: {file} labels no image: the labels of test sets are not public")
    strip = _strip(root, [name for name, _ in labelled], file, year)
    there, missing = _that_are_there(root, labelled, strip, file)
    ranks = {number: rank for rank, number in enumerate(names)}
    said = _missing(missing) + without + _unlike_published(root, split, year, found, len(names))
    name = f"inaturalist{year}:{path}/{split}"
    if whole and said:
        raise ValueError(f"{name} is not whole: {'; '.join(said)}")
    check_files([str(root / file) for file, _ in there], f"spec: {root}")
    return FolderSource(
        str(root),
        [file for file, _ in there],
        np.array([ranks[number] for _, number in there], np.int64),
        tuple(names.values()),
        name,
        said,
    )


def _list_file(root: pathlib.Path, split: str, year: str) -> pathlib.Path:
    names = [f"{folder}{split}{end}.json" for folder in ("", "annotations/") for end in (year, "")]
    for name in names:
        if (root / name).is_file():
            return root / name
    there = sorted(file.name for file in root.glob("*.json*"))
    raise ValueError(
        f"split: got {split!r}, but {root} has neither {names[0]} nor {names[1]}"
        + (f", only {', '.join(there[:6])}; unpack archives" if there else "")
    )


def _read_list(file: pathlib.Path) -> dict[str, list[dict[str, Any]]]:
    """The lists that count, their entries checked. ValueError naming the file and the key."""
    try:
        found = read_json(file, _LARGEST)
    except (ValueError, OSError) as error:
        raise ValueError(f"spec: {file} can't be read as JSON ({error})") from None
    wanted = {
        "images": {"id": int, "file_name": str},
        "annotations": {"image_id": int, "category_id": int},
        "categories": {"id": int},
    }
    lists = {}
    for key, fields in wanted.items():
        held = found if isinstance(found, dict) else {}
        entries = held.get(key, [] if key == "annotations" else None)
        if not isinstance(entries, list):
            raise ValueError(f"spec: {file} has no list {key!r}, as iNaturalist's have")
        for field, kind in fields.items():
            for number, entry in enumerate(entries):
                if not isinstance(entry, dict) or type(entry.get(field)) is not kind:
                    raise ValueError(
                        f"spec: {file}: {key}[{number}] has no {field!r} of type {kind.__name__}"
                    )
        lists[key] = entries
    return lists


def _class_names(
    categories: Sequence[Mapping[str, Any]], file: pathlib.Path, root: pathlib.Path
) -> dict[int, str]:
    """{category number: name}, by number. ValueError for a number without a name, or with two."""
    numbers = [entry["id"] for entry in categories]
    if len(set(numbers)) < len(numbers) or not numbers:
        raise ValueError(f"spec: {file} has a category twice, or none")
    said_by, named = file, categories
    places = (file.parent / "categories.json", root / "categories.json")
    beside = next((one for one in places if one.is_file()), None)
    if beside is not None:
        said_by, named = beside, _categories(beside)
    found = {entry.get("id"): entry.get("name") for entry in named}
    for number in numbers:
        if not isinstance(found.get(number), str):
            raise ValueError(f"spec: {said_by} has no name for the category {number}")
    times = Counter(found[number] for number in numbers)
    return {
        number: found[number] if times[found[number]] == 1 else f"{found[number]} ({number})"
        for number in sorted(numbers)
    }


def _categories(file: pathlib.Path) -> list[dict[str, Any]]:
    try:
        found = read_json(file)
    except (ValueError, OSError) as error:
        raise ValueError(f"spec: {file} can't be read as JSON ({error})") from None
    found = found.get("categories") if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError(f"spec: {file} is no list of categories")
    return found


def _labelled(
    found: Mapping[str, list[dict[str, Any]]], file: pathlib.Path
) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """(file, category) of each image in the list's order, and what is said of those without one."""
    known = {entry["id"] for entry in found["categories"]}
    categories: dict[int, int] = {}
    for entry in found["annotations"]:
        image, category = entry["image_id"], entry["category_id"]
        if category not in known:
            raise ValueError(f"spec: {file}: image {image} has the category {category}, which is "
                             "in no list of categories")  # fmt: skip
        if categories.setdefault(image, category) != category:
            raise ValueError(
                f"spec: {file}: image {image} is of two categories, {categories[image]} and "
                f"{category}"
            )
    names = [entry["file_name"] for entry in found["images"]]
    labelled = [
        (name, categories[entry["id"]])
        for name, entry in zip(names, found["images"], strict=True)
        if entry["id"] in categories
    ]
    without = len(names) - len(labelled)
    return labelled, (f"{without} × image without a category",) if without else ()


def _strip(root: pathlib.Path, files: Sequence[str], file: pathlib.Path, year: str) -> int:
    """How many leading folders of the list's names aren't there: 0, or 1 where PATH is that one."""
    tried = files[:: max(1, len(files) // _TRIED)]
    for strip in (0, 1):
        if any((root / _without_folders(name, strip, root, file)).is_file() for name in tried):
            return strip
    archive = files[0].split("/")[0] + ".tar.gz"
    raise ValueError(
        f"spec: of the images in {file} none is there, as {root / files[0]}; unpack {archive} in "
        f"{root}"
    )


def _without_folders(name: str, strip: int, root: pathlib.Path, file: pathlib.Path) -> str:
    if name.startswith("/") or ".." in name or "\0" in name:  # a path for each takes seconds
        inside_folder(root, name, file)  # refuses one that leads out
    return name.partition("/")[2] if strip else name


def _that_are_there(
    root: pathlib.Path, labelled: Sequence[tuple[str, int]], strip: int, file: pathlib.Path
) -> tuple[list[tuple[str, int]], list[str]]:
    """(file, category) of the images that exist, and the others. Each folder is read once."""
    folders: dict[str, set[str]] = {}
    there, missing = [], []
    for name, category in labelled:
        name = _without_folders(name, strip, root, file)
        folder, _, last = name.rpartition("/")
        if folder not in folders:
            path = root / folder
            folders[folder] = set(os.listdir(path)) if path.is_dir() else set()  # noqa: PTH208 - names alone are ten times cheaper
        if last in folders[folder]:
            there.append((name, category))
        else:
            missing.append(name)
    return there, missing


def _missing(files: Sequence[str]) -> tuple[str, ...]:
    if not files:
        return ()
    shown = ", ".join(files[:_NAMED]) + (", …" if len(files) > _NAMED else "")
    return (f"{len(files)} × image that is listed and not there: {shown}",)


def _unlike_published(
    root: pathlib.Path, split: str, year: str, found: Mapping[str, Any], classes: int
) -> tuple[str, ...]:
    """How a list differs from the published one in numbers, in a line each."""
    published, images = YEARS[year], len(found["images"])
    said = ()
    if classes != published.classes:
        said += (f"it lists {classes:,} classes, and the published set {published.classes:,}",)
    number = published.images.get(split)
    if number is not None and images != number:
        said += (f"it lists {images:,} images, and the published {split} {number:,}",)
    if published.train_and_val and split in ("train", "val"):
        other = {"train": "val", "val": "train"}[split]
        try:
            both = images + len(_read_list(_list_file(root, other, year))["images"])
        except ValueError:
            return said  # without the other list there is no number to compare with
        if both != published.train_and_val:
            said += (
                f"train and val list {both:,} images, and the published "
                f"{published.train_and_val:,}",
            )
    return said
