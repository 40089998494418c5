"""ImageNet's validation images as they were published: in one folder, with a list of classes."""

import pathlib
import re

import numpy as np

from vit_jax_xfer.data.sources.folder import FolderSource
from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.data.sources.named_files import read_text
from vit_jax_xfer.data.sources.source import Source
from vit_jax_xfer.data.sources.tar import TarSource, tar_images
from vit_jax_xfer.data.sources.visible_files import visible
from vit_jax_xfer.suites.imagenet_labels import synsets
from vit_jax_xfer.suites.suite_places import flat_images, inner_folder

# Of TensorFlow's, Caffe's and Kaggle's helpers, and of the published development kit.
_LISTS = (
    *("imagenet_2012_validation_synset_labels.txt", "synset_labels.txt"),
    *("val_map.txt", "val_annotations.txt", "val.txt", "LOC_val_solution.csv"),
    "ILSVRC2012_validation_ground_truth.txt",
)
_FOLDERS = (".", "data", "devkit/data", "ILSVRC2012_devkit_t12/data", "imagenet")
_WORDNET = re.compile(r"n\d{8}(?!\d)")


def validation_number(file: str) -> int | None:
    """Which of the validation images a file is, from 1 on, by its name; None for others."""
    number = re.search(r"val_0*(\d+)\.", file)
    return int(number[1]) if number else None


def is_flat(place: pathlib.Path) -> bool:
    """Whether images lie there without folders of classes."""
    if place.is_dir():
        return bool(flat_images(inner_folder(place)))
    folders = {name.rpartition("/")[0].rpartition("/")[2] for name, *_ in tar_images(place)}
    return len(folders) == 1 and not _WORDNET.match(next(iter(folders)))


def open_flat(place: pathlib.Path) -> Source:
    """The images of a folder or archive, without labels."""
    if not place.is_dir():
        found = sorted(tar_images(place))
        where = np.array([(start, size) for _, start, size in found], np.int64)
        none = np.full(len(found), -1)
        return TarSource(str(place), [name for name, *_ in found], where, none, (), f"tar:{place}")
    folder = inner_folder(place)
    files = flat_images(folder)
    check_files([str(folder / file) for file in files], str(folder))
    return FolderSource(str(folder), files, np.full(len(files), -1), (), f"folder:{folder}")


def label_by_list(name: str, source: Source, place: pathlib.Path, root: pathlib.Path) -> Source:
    """Labels the images of `open_flat` by WordNet's names.

    They are those that all files begin with, as n01440764_10026.JPEG, or those of the list that
    lies near them. ValueError where there is neither, and for an image that the list doesn't name.
    """
    files = source.files  # type: ignore[attr-defined]
    own = [_WORDNET.match(pathlib.PurePosixPath(file).name) for file in files]
    if all(match and match[0] in _known() for match in own):
        return _labelled(source, [match[0] for match in own if match])
    near = [place, *place.parents[:2], root] if place.is_dir() else [*place.parents[:2], root]
    lists = (folder / inner / one for folder in near for inner in _FOLDERS for one in _LISTS)
    found = next((one for one in lists if one.is_file()), None)
    if found is None:
        kinds = [(folder, kind) for folder in near for kind in ("*.txt", "*.csv")]
        others = (one for folder, kind in kinds for one in visible(folder.glob(kind), folder))
        found = next((one for one in others if _names_all(one, files)), None)
    if found is None:
        raise ValueError(
            f"{name}: {place} has no folders of classes, and no list of them near it "
            f"({', '.join(_LISTS)}, or a .txt or .csv of files and classes)"
        )
    source.name += f", classes by {found.name}"
    return _labelled(source, _classes(name, found, files))


def _labelled(source: Source, classes: list[str]) -> Source:
    used = sorted(set(classes))
    source.class_names = tuple(used)  # type: ignore[attr-defined]
    places = {one: number for number, one in enumerate(used)}
    source.all_labels = np.array([places[one] for one in classes], np.int64)  # type: ignore[attr-defined]
    return source


def _classes(name: str, found: pathlib.Path, files: list[str]) -> list[str]:
    """The WordNet name of each file's class."""
    try:
        rows = _rows(found)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {found} can't be read ({error})") from None
    if all(len(row) == 1 for row in rows):
        return _in_order(name, found, [row[0] for row in rows], files)
    by_file = {_stem(row[0]): row[1] for row in rows if len(row) > 1}
    lacking = [file for file in files if _stem(file) not in by_file]
    if lacking:
        raise ValueError(f"{name}: {found} has no class of {lacking[0]}")
    return [_wordnet(name, found, by_file[_stem(file)]) for file in files]


def _rows(found: pathlib.Path) -> list[list[str]]:
    """The words of each line. Raises as `read_text`."""
    lines = [line.strip() for line in read_text(found).splitlines() if line.strip()]
    if lines and lines[0].startswith("ImageId"):
        lines = lines[1:]
    return [re.split(r"[\s,]+", line) for line in lines]


def _names_all(found: pathlib.Path, files: list[str]) -> bool:
    """Whether a file of any name has a line for each image."""
    try:
        named = {_stem(row[0]) for row in _rows(found) if len(row) > 1}
    except (OSError, ValueError):
        return False
    return named.issuperset(map(_stem, files))


def _stem(file: str) -> str:
    return pathlib.PurePosixPath(file).name.partition(".")[0]


def _in_order(name: str, found: pathlib.Path, entries: list[str], files: list[str]) -> list[str]:
    """Of a list with one class a line, in the order of the images' numbers."""
    if not all(map(_WORDNET.fullmatch, entries)):
        entries = _of_the_kit(name, found, entries)
    classes = []
    for file in files:
        number = validation_number(file)
        if number is None or not 1 <= number <= len(entries):
            raise ValueError(
                f"{name}: {found} goes by numbers, and {file} is not called "
                f"ILSVRC2012_val_00000001.JPEG or so, up to {len(entries)}"
            )
        classes.append(_wordnet(name, found, entries[number - 1]))
    return classes


def _of_the_kit(name: str, found: pathlib.Path, entries: list[str]) -> list[str]:
    """WordNet names of the development kit's own numbers, 1 to 1,000, which its meta.mat explains.

    They are in another order than the classes'.
    """
    meta = next((one for one in (found.parent / "meta.mat", found.parent / "data/meta.mat")
                 if one.is_file()), None)  # fmt: skip
    if meta is None:
        raise ValueError(
            f"{name}: {found} has numbers, which are the development kit's own and not those of "
            "the classes in order; put its meta.mat beside it"
        )
    from scipy.io import loadmat

    try:
        table = loadmat(meta, squeeze_me=True)["synsets"]
        names = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in table}
        return [names[int(entry)] for entry in entries]
    except Exception as error:  # scipy: ValueError, TypeError, its own kinds
        raise ValueError(
            f"{name}: {meta} doesn't explain the numbers of {found} ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''})"
        ) from None


def _wordnet(name: str, found: pathlib.Path, entry: str) -> str:
    """A class of a list, by WordNet's name or by its number among the sorted names."""
    if entry in _known():
        return entry
    if entry.isdecimal() and int(entry) < len(synsets()):
        return synsets()[int(entry)]
    raise ValueError(f"{name}: {found} has the class {entry!r}, expected n01440764 … or 0 to 999")


def _known() -> frozenset[str]:
    return frozenset(synsets())
