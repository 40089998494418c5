"""Photographs with objects, whatever layout they come from, and what is left out of them."""

import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax_xfer.data.broken_images import BrokenImage
from vit_jax_xfer.data.images import height_width
from vit_jax_xfer.data.objects import FAR, Objects, Outline, check_boxes
from vit_jax_xfer.data.sources.decode import decode_image
from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.data.sources.source import Source
from vit_jax_xfer.data.target_arrays import BOXES

_NAMED = 3  # of what is left out for one reason


@dataclasses.dataclass(eq=False)
class ListedPhotograph:
    """A photograph as its layout lists it, nothing checked. size: (height, width).

    boxes: xyxy, M of them; so long are the other lists, where they aren't empty: nothing is crowd,
    hard or outlined then, and areas are those of the boxes. number: its id in the layout.
    """

    file: Path
    size: tuple[int, int]
    boxes: list[Sequence[float]] = dataclasses.field(default_factory=list)
    labels: list[int] = dataclasses.field(default_factory=list)
    crowd: list[bool] = dataclasses.field(default_factory=list)
    hard: list[bool] = dataclasses.field(default_factory=list)
    areas: list[float] = dataclasses.field(default_factory=list)
    outlines: list[Outline] = dataclasses.field(default_factory=list)
    number: Any = None


@dataclasses.dataclass(eq=False)
class ObjectSource:
    """Examples {"image", "label": -1, "objects": Objects, "name"}; see `Source`.

    sizes: (N, 2) int64, heights and widths. numbers: the photographs' ids. category_ids: the
    classes' ids in the layout, in the order of class_names.
    """

    files: list[Path]
    sizes: np.ndarray
    numbers: list[Any]
    all_objects: Objects
    starts: np.ndarray
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    name: str
    left_out: tuple[str, ...] = ()
    targets: str = BOXES

    @property
    def num_classes(self) -> int:
        """How many classes objects may have, with or without any."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.files)

    def target(self, index: int) -> Objects:
        """The objects of a photograph, crowds too."""
        return self.all_objects.pick(np.arange(self.starts[index], self.starts[index + 1]))

    def image_id(self, index: int) -> Any:
        """A photograph's id in the layout."""
        return self.numbers[index]

    def __getitem__(self, index: int) -> dict:
        path = str(self.files[index])
        image = decode_image(path, path)
        found, listed = height_width(image), tuple(self.sizes[index].tolist())
        if found != listed:
            raise BrokenImage(
                path,
                f"it has {found[0]}×{found[1]} pixels, its boxes are for {listed[0]}×{listed[1]}",
            )
        return {"image": image, "label": -1, "objects": self.target(index), "name": path}

    def labels(self) -> np.ndarray:
        """-1 for each, int64 (N,): no image has one class."""
        return np.full(len(self), -1)

    @functools.cached_property
    def without_outline(self) -> int:
        """Of how many objects, crowds aside, only a box is known."""
        pairs = zip(self.all_objects.outlines, self.all_objects.crowd, strict=True)
        return sum(outline is None and not crowd for outline, crowd in pairs)


def make_object_source(
    photographs: Sequence[ListedPhotograph],
    class_names: Sequence[str],
    name: str,
    *,
    category_ids: Sequence[int] | None = None,
    left_out: Sequence[str] = (),
) -> ObjectSource:
    """The source of listed photographs; boxes go through `check_boxes`, and what it drops is said.

    category_ids: None = 1, 2, …. ValueError, naming files, where there are none, where some are
    missing or broken, and for a class number that there isn't.
    """
    if not photographs:
        raise ValueError(f"spec: {name} lists no images")
    _check_there([one.file for one in photographs], name)
    dropped: Counter[str] = Counter()
    examples: dict[str, dict[str, None]] = {}
    parts = []
    for one in photographs:
        objects, reasons = _objects_of(one, len(class_names))
        for reason in filter(None, reasons):
            dropped[reason] += 1
            if (
                len(examples.setdefault(reason, [])) < _NAMED
                and str(one.file) not in examples[reason]
            ):
                examples[reason].append(str(one.file))
        parts.append(objects)
    said = [
        f"{number} × {reason}: {_named(list(examples[reason]))}"
        for reason, number in sorted(dropped.items())
    ]
    crowds = sum(int(one.crowd.sum()) for one in parts)
    if crowds:
        said.append(f"{crowds} × crowd, which is no target of training and counts in evaluation")
    return ObjectSource(
        [one.file for one in photographs],
        np.array([one.size for one in photographs], np.int64),
        [one.number for one in photographs],
        _joined(parts),
        np.concatenate([[0], np.cumsum([len(one) for one in parts])]).astype(np.int64),
        tuple(class_names),
        tuple(category_ids if category_ids is not None else range(1, len(class_names) + 1)),
        name,
        (*left_out, *said),
    )


def _objects_of(one: ListedPhotograph, num_classes: int) -> tuple[Objects, list[str]]:
    """The good objects of a photograph, and the reasons of `check_boxes`."""
    number = len(one.boxes)
    labels = np.array(one.labels, np.int64).reshape(-1)
    if number and not (labels.min() >= 0 and labels.max() < num_classes):
        wrong = labels[(labels < 0) | (labels >= num_classes)][0]
        raise ValueError(f"spec: {one.file}: class number {wrong}, expected 0 to {num_classes - 1}")
    boxes = np.array(one.boxes, np.float64).reshape(-1, 4)
    checked = check_boxes(boxes, one.size)
    areas = np.array(one.areas, np.float64)
    if not one.areas:
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    objects = Objects(
        boxes,
        labels.astype(np.int32),
        np.array(one.crowd or [False] * number, bool),
        np.array(one.hard or [False] * number, bool),
        areas,
        tuple(one.outlines or [None] * number),
    )
    far = np.array([_is_far(outline, one.size) for outline in objects.outlines], bool)
    reasons = [FAR if out else reason for out, reason in zip(far, checked.reasons, strict=True)]
    return objects.pick(checked.good & ~far), reasons


def _is_far(outline: Outline, size: Sequence[int]) -> bool:
    """Whether a polygon's corner is so far away that drawing it would take any memory."""
    if outline is None or isinstance(outline, dict):
        return False
    limits = np.array(size[::-1])
    return any(bool(((ring < -limits) | (ring > 2 * limits)).any()) for ring in outline)


def _joined(parts: Sequence[Objects]) -> Objects:
    fields = ("boxes", "labels", "crowd", "hard", "areas")
    arrays = (np.concatenate([getattr(part, name) for part in parts]) for name in fields)
    return Objects(*arrays, tuple(outline for part in parts for outline in part.outlines))


def _check_there(files: Sequence[Path], name: str) -> None:
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise ValueError(
            f"spec: {name} names {len(missing)} images that are missing: {_named(missing)}"
        )
    check_files([str(file) for file in files], f"spec: {name}")


def _named(files: Sequence[object]) -> str:
    """The first files' names."""
    return ", ".join(map(str, files[:_NAMED])) + (", …" if len(files) > _NAMED else "")


def crowded_images(source: Source, most: int) -> int:
    """How many photographs of a source with boxes have more objects than `most`, crowds aside."""
    counts = (len(source.target(index).targets) for index in range(len(source)))
    return sum(count > most for count in counts)


def check_split(split: str, given: Sequence[str], what: str) -> None:
    """ValueError unless a split is one of those that a list without splits may be taken for."""
    if split not in given:
        raise ValueError(
            f"split: got {split!r}, but {what} is one list, of split {given[0]!r}: name that, "
            "with a range such as [:80%] where you want a part, or give another list"
        )
