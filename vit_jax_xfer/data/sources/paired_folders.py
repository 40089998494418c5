"""Two folders whose files go together by name: photographs, and a mask or a text for each."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from vit_jax_xfer.data.sources.decode import readable_suffixes
from vit_jax_xfer.data.sources.visible_files import files_below

# What data sets call the folder of a split.
TRAIN = ("train", "training", "train2017")
VAL = ("val", "validation", "val2017")
# Of masks: formats whose packing changes no number. In a GIF writers number colours anew.
_MASKS = (".png",)
_OTHER_MASKS = (".tif", ".tiff", ".bmp", ".pgm", ".ppm", ".pbm", ".pnm")
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


def find_pairs(images: Path, others: Path, *endings: str) -> Pairs:
    """The files of `others` with these endings, and the photographs of the same names in `images`.

    Both may lie in one folder. A photograph that is missing is named as .jpg. ValueError where
    several photographs, or several others, have a name that is asked for.
    """
    listed = _files(others, endings)
    taken = {file.resolve() for file in listed}
    by_name: dict[str, list[Path]] = {}
    for file in _files(images, readable_suffixes()):
        if file.resolve() not in taken:
            by_name.setdefault(_name(images, file), []).append(file)
    found: dict[str, tuple[Path, Path]] = {}
    for other in listed:
        name = _name(others, other)
        if name in found:
            _refuse_twins(found[name][1], other)
        photographs = by_name.pop(name, [images / f"{name}.jpg"])
        if len(photographs) > 1:
            _refuse_twins(*photographs[:2])
        found[name] = photographs[0], other
    return Pairs(list(found.values()), sorted(file for files in by_name.values() for file in files))


def find_masks(images: Path, masks: Path) -> Pairs:
    """`find_pairs` of photographs and masks: PNGs, or, where there are none, TIFF, BMP or PNM.

    ValueError for a photograph whose only mask is in another format than the others: what JPEG or
    GIF packs may come back as other numbers.
    """
    found = find_pairs(images, masks, *mask_endings(masks))
    if images.resolve() == masks.resolve():  # nothing tells a mask from a photograph there
        return found
    there = {_name(masks, file): file for file in _files(masks, readable_suffixes())}
    for image in found.unused:
        if other := there.get(_name(images, image)):
            raise ValueError(
                f"{other}: masks are PNGs, or all TIFF, BMP or PNM; save this one as PNG, and not "
                "from a JPEG or GIF, in which numbers may no longer be what they were"
            )
    return found


def mask_files(folder: Path) -> list[Path]:
    """All masks below a folder, as `find_masks` takes them."""
    return _files(folder, mask_endings(folder))


def mask_endings(folder: Path) -> tuple[str, ...]:
    """The endings of a folder's masks."""
    return _MASKS if _files(folder, _MASKS) else _OTHER_MASKS


@contextlib.contextmanager
def as_spec() -> Iterator[None]:
    """Errors begin with "spec", what a source is opened by."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"spec: {error}") from None


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


def _refuse_twins(first: Path, second: Path) -> None:
    raise ValueError(f"{first}: {second.name} has the same name; leave one of them there")


def _files(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    return [file for file in files_below(folder) if file.suffix.lower() in endings]


def _name(folder: Path, file: Path) -> str:
    return str(file.relative_to(folder).with_suffix(""))
