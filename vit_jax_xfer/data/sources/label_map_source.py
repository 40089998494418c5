"""Photographs with maps of classes, a number a pixel, whatever layout they come from."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from vit_jax_xfer.data.broken_images import BrokenImage
from vit_jax_xfer.data.images import height_width
from vit_jax_xfer.data.sources.class_files import read_class_file
from vit_jax_xfer.data.sources.decode import decode_image
from vit_jax_xfer.data.sources.index_picture import read_class_mask
from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.data.sources.paired_folders import (
    as_spec,
    find_masks,
    folders_of_split,
    mask_files,
)
from vit_jax_xfer.data.target_arrays import LABEL_MAP, VOID

_MOST = 255  # classes; the number after them is none
_NO_CLASS = ("unlabeled", "unlabelled", "void", "ignore")  # names of ids that are none


@dataclasses.dataclass(eq=False)
class LabelMapSource:
    """Examples {"image", "label": -1, "label_map": uint8 (h, w), "name"}; see `Source`.

    files: (photograph, mask). table: (65536,) uint8, from ids in masks to class numbers, 255 = no
    class. known: (65536,) bool, which ids are a class or none by what the layout says; others are
    an error. category_ids: the classes' ids.
    """

    files: list[tuple[Path, Path]]
    table: np.ndarray
    known: np.ndarray
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    name: str
    left_out: tuple[str, ...] = ()
    targets: str = LABEL_MAP

    @property
    def num_classes(self) -> int:
        """How many classes pixels may have, with or without any."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.files)

    def target(self, index: int) -> np.ndarray:
        """A photograph's map, uint8 (h, w). BrokenImage for a mask that can't be read or right."""
        mask = self.files[index][1]
        try:
            ids = read_class_mask(mask)
        except ValueError as error:
            raise BrokenImage(str(mask), str(error)) from None
        if not self.known[ids].all():
            wrong = int(ids[~self.known[ids]][0])
            raise BrokenImage(str(mask), f"it has the id {wrong}, which is no class of the set")
        return self.table[ids]

    def image_id(self, index: int) -> str:
        """A photograph's name without suffix."""
        return self.files[index][0].stem

    def __getitem__(self, index: int) -> dict:
        photograph, mask = self.files[index]
        image, found = decode_image(photograph, str(photograph)), self.target(index)
        if height_width(image) != found.shape:
            height, width = found.shape
            raise BrokenImage(str(photograph), f"its mask {mask} has {height}×{width} pixels")
        return {"image": image, "label": -1, "label_map": found, "name": str(photograph)}

    def labels(self) -> np.ndarray:
        """-1 for each, int64 (N,): no image has one class."""
        return np.full(len(self), -1)


def make_label_map_source(
    files: Sequence[tuple[Path, Path]],
    classes: Mapping[int, str],
    void: Collection[int],
    name: str,
    left_out: Sequence[str] = (),
) -> LabelMapSource:
    """The source of photographs and masks.

    classes: names by id; their numbers are the ids' ranks. void: ids that are no class. ValueError,
    naming files, where there are none, where some are missing or broken, and for too many classes.
    """
    if not files:
        raise ValueError(f"spec: {name} has no masks")
    if not 1 <= len(classes) <= _MOST:
        raise ValueError(f"spec: {name} has {len(classes)} classes, expected from 1 to {_MOST}")
    for kind, listed in zip(("image", "mask"), zip(*files, strict=True), strict=True):
        missing = [file for file in listed if not file.is_file()]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise ValueError(f"spec: {missing[0]}{more}: no such {kind}")
        read = read_class_mask if kind == "mask" else None
        check_files([str(file) for file in listed], f"spec: {name}", read=read)
    ids = sorted(classes)
    table, known = np.full(2**16, VOID, np.uint8), np.zeros(2**16, bool)
    table[ids] = np.arange(len(ids))
    known[[*ids, *void]] = True
    names = tuple(classes[number] for number in ids)
    return LabelMapSource(list(files), table, known, names, tuple(ids), name, tuple(left_out))


def open_mask_folders(spec: str, split: str) -> LabelMapSource:
    """Opens IMAGES:MASKS or IMAGES:MASKS:CLASSES: photographs, and masks of ids of the same names.

    Both with sub-folders train (training, train2017) and val (validation, val2017), or neither,
    which is a split "train". CLASSES: a file with the names (see `read_class_file`); an id that is
    called unlabeled, void or ignore is no class, nor is 255. Without it all masks of all splits are
    read, and classes are the ids that are there. ValueError.
    """
    parts = spec.split(":")
    if len(parts) not in (2, 3):
        raise ValueError(f"spec: got {spec!r}, expected masks:IMAGES:MASKS or IMAGES:MASKS:CLASSES")
    images, masks = (Path(part).expanduser() for part in parts[:2])
    folders = folders_of_split(images, masks, split)
    with as_spec():
        found = find_masks(*folders)
    said = list(found.said("a mask"))
    void = {VOID}
    if len(parts) == 3:
        classes = read_class_file(Path(parts[2]).expanduser())
        unnamed = {number for number, name in classes.items() if name.lower() in _NO_CLASS}
        said += [f"pixels of id {number}, called {classes[number]!r}" for number in sorted(unnamed)]
        classes = {number: name for number, name in classes.items() if number not in unnamed}
        void |= unnamed
    else:
        classes = {number: str(number) for number in _ids_in(masks) - void}
        if len(classes) == 1:
            (only,) = classes
            raise ValueError(
                f"spec: {masks}: the masks have one class, {only}, where 255 is none, so there is "
                "nothing to tell apart; name all ids in a file, masks:IMAGES:MASKS:CLASSES, as "
                "'0: background' and '255: object'"
            )
    return make_label_map_source(found.files, classes, void, f"masks:{spec}/{split}", said)


def open_ade20k(path: str, split: str) -> LabelMapSource:
    """ADEChallengeData2016: images and annotations with training and validation, 150 classes.

    Id 0, "other objects", is no class. Names come from objectInfo150.txt where it is there, else
    they are the ids.
    """
    root = Path(path).expanduser()
    names = {number: str(number) for number in range(1, 151)}
    if (root / "objectInfo150.txt").is_file():
        names = read_class_file(root / "objectInfo150.txt")
    if sorted(names) != list(range(1, 151)):
        raise ValueError(f"spec: {root / 'objectInfo150.txt'}: expected ids 1 to 150")
    folders = folders_of_split(root / "images", root / "annotations", split)
    with as_spec():
        found = find_masks(*folders)
    name = f"ade20k:{path}/{split}"
    return make_label_map_source(found.files, names, {0}, name, found.said("a mask"))


def _ids_in(masks: Path) -> set[int]:
    """All ids of all masks."""
    found: set[int] = set()
    for file in mask_files(masks):
        with as_spec():
            found |= set(np.unique(read_class_mask(file)).tolist())
    return found
