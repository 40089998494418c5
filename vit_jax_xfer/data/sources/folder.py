"""Image files in folders: PATH/<split>/<class>/*.jpg, or a plain folder of unlabelled images."""

import os
import pathlib
from dataclasses import dataclass

import numpy as np

from vit_jax_xfer.data.sources.decode import decode_image
from vit_jax_xfer.data.sources.integrity import check_files

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FLAT_SPLIT = "train"


@dataclass
class FolderSource:
    """Decodes `root / files[i]` on access; labels int64 (N,) index `class_names`, or are -1."""

    root: str
    files: list[str]
    all_labels: np.ndarray
    class_names: tuple[str, ...]
    name: str

    @property
    def num_classes(self) -> int:
        """How many class folders there are; 0 for unlabelled images."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict:
        path = os.path.join(self.root, self.files[index])  # noqa: PTH118 - per image, 10x cheaper
        return {"image": decode_image(path, path), "label": int(self.all_labels[index])}

    def labels(self) -> np.ndarray:
        """All labels, int64 (N,)."""
        return self.all_labels


def open_folder(path: str, split: str) -> FolderSource:
    """Opens PATH/<split>; classes are its sub-folders in sorted order (names, as strings).

    A split folder that holds images and no sub-folders is unlabelled (label -1, no classes). A
    PATH that itself holds images and no sub-folders is an unlabelled split "train". Files are
    jpg, jpeg, png, webp and bmp, sorted by name; names starting with a dot are ignored. Raises
    ValueError for a missing path or split, a folder or class without images, broken files.
    """
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise ValueError(f"spec: folder {path!r} does not exist")
    folder = root / split
    if not folder.is_dir():
        folder = _flat_folder(root, split)
    name = f"folder:{path}/{split}"
    classes = _subfolders(folder)
    if classes:
        source = _labelled(folder, classes, name)
    else:
        files = _images(folder)
        source = FolderSource(str(folder), files, np.full(len(files), -1), (), name)
    if not source.files:
        raise ValueError(f"spec: {folder} holds no images ({', '.join(EXTENSIONS)})")
    check_files([str(folder / file) for file in source.files], f"spec: {folder}")
    return source


def _flat_folder(root: pathlib.Path, split: str) -> pathlib.Path:
    folders = _subfolders(root)
    is_flat = not folders and _images(root)
    if is_flat and split == FLAT_SPLIT:
        return root
    found = FLAT_SPLIT if is_flat else ", ".join(folders[:10]) or "no folders and no images"
    raise ValueError(f"split: got {split!r}, but {root} has {found}")


def _labelled(folder: pathlib.Path, classes: list[str], name: str) -> FolderSource:
    files, labels = [], []
    for label, class_name in enumerate(classes):
        images = _images(folder / class_name)
        # Dropping the class instead would shift the labels of all that follow.
        if not images:
            raise ValueError(f"spec: class folder {folder / class_name} holds no images")
        files += [f"{class_name}/{image}" for image in images]
        labels += [label] * len(images)
    return FolderSource(str(folder), files, np.array(labels), tuple(classes), name)


def _subfolders(folder: pathlib.Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _images(folder: pathlib.Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_file() and not e.name.startswith(".")]
    return sorted(name for name in names if name.lower().endswith(EXTENSIONS))
