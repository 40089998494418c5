"""Image files in folders: PATH/<split>/<class>/*.jpg, PATH/<class>/*.jpg, or images alone."""

import os
import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vit_jax_xfer.data.shared_arrays import shared
from vit_jax_xfer.data.sources.decode import decode_image
from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.data.sources.packed_names import PackedNames
from vit_jax_xfer.data.sources.visible_files import is_hidden

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FLAT_SPLIT = "train"
_NAMED = 3  # of what is left out for one reason
# Folders of these names are splits, where others that hold images are classes.
_SPLITS = ("train", "training", "val", "valid", "validation", "dev", "eval", "test", "testing")


@dataclass
class FolderSource:
    """Decodes `root / files[i]` on access; labels int64 (N,) index `class_names`, or are -1.

    files: packed, and like the labels in memory that workers map, whatever they are given as.
    """

    root: str
    files: Sequence[str]
    all_labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.files, PackedNames):
            self.files = PackedNames([self.files])
        self.all_labels = shared(self.all_labels)

    @property
    def num_classes(self) -> int:
        """How many class folders there are; 0 for unlabelled images."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        path = os.path.join(self.root, self.files[index])  # noqa: PTH118 - per image, 10x cheaper
        label = int(self.all_labels[index])
        return {"image": decode_image(path, path), "label": label, "name": path}

    def labels(self) -> np.ndarray:
        """All labels, int64 (N,)."""
        return self.all_labels


@dataclass
class _Listing:
    """What a folder holds: images, folders, and the rest by the reason why it is left out."""

    images: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def leave_out(self, reason: str, names: list[str]) -> None:
        self.left_out.setdefault(reason, []).extend(names)

    def said(self) -> tuple[str, ...]:
        """A text for each reason: how many, and the first names."""
        return tuple(_said(reason, names) for reason, names in self.left_out.items() if names)


def open_folder(path: str, split: str) -> FolderSource:
    """Opens PATH/<split>; classes are its sub-folders in sorted order (names, as strings).

    A split folder that holds images and no sub-folders is unlabelled (label -1, no classes). A
    PATH that itself holds images and no sub-folders is an unlabelled split "train", one that holds
    folders of images, none with a split's name, a split "train" of these classes. Files are
    EXTENSIONS, sorted by name. All else is left out and counted in `left_out`: other suffixes,
    folders in a class's, files beside the classes', dangling links, hidden names.
    Raises ValueError for a missing path or split, a folder or class without images, broken files.
    """
    source = list_folder(path, split)
    root = pathlib.Path(source.root)
    check_files(source.files, f"spec: {root}", str(root))
    return source


def list_folder(path: str, split: str) -> FolderSource:
    """As `open_folder`, by the names of files alone: none is opened, so a broken one isn't seen."""
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise ValueError(f"spec: folder {path!r} does not exist")
    folder = root / split
    if not folder.is_dir():
        folder = _without_splits(root, split)
    name = f"folder:{path}/{split}"
    listing = _list(folder)
    if listing.folders:
        source = _labelled(folder, listing, name)
    else:
        files, said = listing.images, listing.said()
        source = FolderSource(str(folder), files, np.full(len(files), -1), (), name, said)
    if not source.files:
        raise ValueError(f"spec: {folder} holds no images ({', '.join(EXTENSIONS)}){_but(listing)}")
    return source


def _without_splits(root: pathlib.Path, split: str) -> pathlib.Path:
    """The folder itself, where it holds images or classes and no splits."""
    listing = _list(root)
    is_flat = bool(listing.images) if not listing.folders else _are_classes(root, listing.folders)
    if is_flat and split == FLAT_SPLIT:
        return root
    folders = ", ".join(listing.folders[:10])
    found = FLAT_SPLIT if is_flat else folders or "no folders and no images"
    raise ValueError(f"split: got {split!r}, but {root} has {found}")


def _are_classes(root: pathlib.Path, folders: list[str]) -> bool:
    """Whether folders are classes: none has a split's name, and images lie right in one."""
    if any(name.lower() in _SPLITS for name in folders):
        return False
    return any(_list(root / name).images for name in folders)


def _labelled(folder: pathlib.Path, top: _Listing, name: str) -> FolderSource:
    top.leave_out("image beside the class folders", top.images)
    counts: list[int] = []
    # One class after the other: the names of all as strings would take gigabytes.
    files = PackedNames(_class_files(folder, top, counts))
    labels = np.repeat(np.arange(len(counts)), counts)
    return FolderSource(str(folder), files, labels, tuple(top.folders), name, top.said())


def _class_files(folder: pathlib.Path, top: _Listing, counts: list[int]) -> Iterator[list[str]]:
    """The images of each class folder; adds their number, and to `top` what is left out."""
    for class_name in top.folders:
        inside = _list(folder / class_name)
        inside.leave_out("folder inside a class's folder", inside.folders)
        # Dropping the class instead would shift the labels of all that follow.
        if not inside.images:
            raise ValueError(
                f"spec: class folder {folder / class_name} holds no images{_but(inside)}; remove "
                "it, or fill it"
            )
        counts.append(len(inside.images))
        for reason, names in inside.left_out.items():
            top.leave_out(reason, [f"{class_name}/{entry}" for entry in names])
        yield [f"{class_name}/{image}" for image in inside.images]


def _list(folder: pathlib.Path) -> _Listing:
    listing = _Listing()
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if is_hidden(entry.name):
            listing.leave_out("hidden name", [entry.name])
        elif entry.is_dir():
            listing.folders.append(entry.name)
        elif not entry.is_file():
            listing.leave_out("dangling link", [entry.name])
        elif entry.name.lower().endswith(EXTENSIONS):
            listing.images.append(entry.name)
        else:
            listing.leave_out("file of a suffix that can't be read", [entry.name])
    return listing


def _said(reason: str, names: list[str]) -> str:
    kinds = Counter(pathlib.PurePath(name).suffix.lower() or "none" for name in names)
    what = reason
    if "suffix" in reason:
        what += f" ({', '.join(f'{kind} {number}' for kind, number in kinds.most_common(5))})"
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"{len(names)} × {what}: {shown}"


def _but(listing: _Listing) -> str:
    return f", but {'; '.join(listing.said())}" if listing.said() else ""
