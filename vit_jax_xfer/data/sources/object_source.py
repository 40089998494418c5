"""Photographs with objects, whatever layout they come from, and what is left out of them."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vit_jax_xfer.data.broken_images import BrokenImage
from vit_jax_xfer.data.images import height_width
from vit_jax_xfer.data.objects import (
    FAR,
    CheckedBoxes,
    Objects,
    Outline,
    check_boxes,
    require_pixels,
)
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
    files = [one.file for one in photographs]
    _check_there(files, name)
    sizes = np.array([one.size for one in photographs], np.int64)
    owners = np.repeat(np.arange(len(files)), [len(one.boxes) for one in photographs])
    objects = _all_objects(photographs)
    require_pixels(objects.boxes, f"spec: {name}")
    wrong = np.flatnonzero((objects.labels < 0) | (objects.labels >= len(class_names)))
    if len(wrong):
        raise ValueError(
            f"spec: {files[owners[wrong[0]]]}: class number {objects.labels[wrong[0]]}, expected 0 "
            f"to {len(class_names) - 1}"
        )
    good, reasons = _checked(objects, sizes[owners])
    kept = objects.pick(good)
    return ObjectSource(
        files,
        sizes,
        [one.number for one in photographs],
        kept,
        np.concatenate([[0], np.cumsum(np.bincount(owners[good], minlength=len(files)))]),
        tuple(class_names),
        tuple(category_ids if category_ids is not None else range(1, len(class_names) + 1)),
        name,
        (*left_out, *_said(reasons, files, owners), *_said_of_crowds(kept)),
    )


def _all_objects(photographs: Sequence[ListedPhotograph]) -> Objects:
    """Those of all photographs, as they are listed."""
    rows: dict[str, list[Any]] = {}
    missing = {"crowd": False, "hard": False, "areas": np.nan, "outlines": None}
    for one in photographs:
        for name in ("boxes", "labels", *missing):
            listed = getattr(one, name) or [missing.get(name)] * len(one.boxes)
            rows.setdefault(name, []).extend(listed)
    boxes = np.array(rows["boxes"], np.float64).reshape(-1, 4)
    areas = np.array(rows["areas"], np.float64)
    return Objects(
        boxes,
        np.array(rows["labels"], np.int32),
        np.array(rows["crowd"], bool),
        np.array(rows["hard"], bool),
        np.where(np.isnan(areas), np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), areas),
        tuple(rows["outlines"]),
    )


def _checked(objects: Objects, sizes: np.ndarray) -> CheckedBoxes:
    """`check_boxes` of objects on photographs of these sizes (M, 2), and the same of outlines."""
    checked = check_boxes(objects.boxes, sizes)
    longer = sizes.max(1, initial=0)
    pairs = zip(objects.outlines, longer, strict=True)
    far = np.array([_is_far(outline, side) for outline, side in pairs], bool)
    return CheckedBoxes(checked.good & ~far, np.where(far, FAR, checked.reasons))


def _is_far(outline: Outline, side: int) -> bool:
    """Whether a polygon's corner is so far away that drawing it would take any memory."""
    if outline is None or isinstance(outline, dict):
        return False
    return any(ring.min() < -side or ring.max() > 2 * side for ring in outline)


def _said(reasons: np.ndarray, files: Sequence[Path], owners: np.ndarray) -> list[str]:
    """A text for each reason: how many boxes, and the first files."""
    said = []
    for reason in sorted(set(reasons.tolist()) - {""}):
        places = np.flatnonzero(reasons == reason)
        # As keys of a dictionary: each once, in their order.
        named = list(dict.fromkeys(str(files[owner]) for owner in owners[places]))
        said.append(f"{len(places)} × {reason}: {_named(named)}")
    return said


def _said_of_crowds(kept: Objects) -> list[str]:
    number = int(kept.crowd.sum())
    about = "crowd, which is no target of training and counts in evaluation"
    return [f"{number} × {about}"] if number else []


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
