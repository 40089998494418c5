"""Two folders whose files go together by name: photographs, and a mask or a text for each."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vit_jax_xfer.data.sources.decode import readable_suffixes

# What data sets call the folder of a split.
TRAIN = ("train", "training", "train2017")
VAL = ("val", "validation", "val2017")
_FOLDERS = {"train": TRAIN, "val": VAL, "validation": VAL}


class Pairs(NamedTuple):
    """files: (photograph, other) by name. unused: photographs without another file."""

    files: list[tuple[Path, Path]]
    unused: list[Path]

    def said(self, other: str) -> tuple[str, ...]:
        """What is left out, in words; other: what the photographs lack."""
        number = len(self.unused)
        more = ", …" if number > 1 else ""
        return (f"{number} × image without {other}: {self.unused[0]}{more}",) if number else ()


def split_folder(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of the sub-folders that is there."""
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def find_pairs(images: Path, others: Path, ending: str) -> Pairs:
    """The files of `others` with that ending, and the photographs of the same names in `images`.

    A photograph that is missing is named as .jpg.
    """
    by_name = {_name(images, file): file for file in _files(images, readable_suffixes())}
    found = []
    for other in _files(others, (ending,)):
        name = _name(others, other)
        found.append((by_name.pop(name, images / f"{name}.jpg"), other))
    return Pairs(found, sorted(by_name.values()))


def folders_of_split(images: Path, others: Path, split: str) -> tuple[Path, Path]:
    """The split's sub-folders of both, or both themselves as "train" or "all". ValueError."""
    for folder in (images, others):
        if not folder.is_dir():
            raise ValueError(f"spec: {folder}: no such folder")
    pairs = {
        name: (split_folder(images, names), split_folder(others, names))
        for name, names in {**_FOLDERS, split: _FOLDERS.get(split, (split,))}.items()
    }
    there = [name for name, pair in pairs.items() if all(pair)]
    if split in there:
        image_folder, other_folder = pairs[split]
        return image_folder, other_folder
    if not there and split in ("train", "all"):
        return images, others
    known = ", ".join(there) or "train (of folders without splits, with a range as [:80%]), all"
    raise ValueError(f"split: got {split!r}, but {images} and {others} have {known}")


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in endings and not file.name.startswith(".") and file.is_file()
    )


def _name(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder).with_suffix(""))
