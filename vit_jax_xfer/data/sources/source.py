"""What every source of images gives: `Source`; and `Subset`, a choice of another's examples."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vit_jax_xfer.data.sources.split import stratified_range
from vit_jax_xfer.data.target_arrays import BOXES, LABEL_MAP, TargetForm


class Source(Protocol):
    """Random access to decoded images with labels; picklable, since worker processes get a copy.

    `source[i]` is `{"image": uint8 (h, w, 3), "label": int}`, and for messages perhaps a "name",
    such as the file's; the label of an unlabelled image is -1. BrokenImage for what can't be read.
    `num_classes` is 0 and `class_names` is empty where nothing is labelled. left_out: what of
    the set is not among its examples and why, a text for each reason.

    A source with targets says which (`targets_of`): "boxes", where examples have "objects" too, an
    `Objects` with crowds, or "label_map", uint8 (h, w) class numbers, 255 = none. Its `target(i)`
    is that entry without the image's pixels. `category_ids` are the classes' ids in its layout,
    `image_id(i)` is that of an image. without_outline: of how many objects, crowds aside, only a
    box is known.
    """

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    left_out: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> dict: ...

    def labels(self) -> np.ndarray:
        """All labels in order, int64 (N,)."""
        ...


def example_name(source: Source, index: int, example: Mapping[str, Any] | None = None) -> str:
    """What messages call an example, such as its file. example: None = it is read for that."""
    found = source[index] if example is None else example
    return found.get("name", f"{index} of {source.name}")


def targets_of(source: Source) -> str:
    """Which targets a source has: "boxes", "label_map", or "" for labels alone."""
    return getattr(source, "targets", "")


def check_targets(source: Source, form: TargetForm) -> None:
    """ValueError where a source hasn't the targets of a form."""
    if targets_of(source) != form.kind:
        what = {BOXES: "boxes", LABEL_MAP: "maps of classes"}
        raise ValueError(
            f"source: {source.name} has {what.get(targets_of(source), 'labels alone')}, expected "
            f"{what[form.kind]}"
        )
    if form.kind == BOXES and form.mask_size and (boxes := source.without_outline):
        raise ValueError(
            f"source: {source.name} has {boxes} objects with a box alone, and masks are asked for; "
            "data.mask_size=0 learns from boxes"
        )


class OfSource:
    """A source made of another, `source`, with the targets of that."""

    source: Source

    def place(self, index: int) -> int:
        """Where an example stands in the other source."""
        return index

    @property
    def targets(self) -> str:
        """The parent's, as of `targets_of`."""
        return targets_of(self.source)

    @property
    def without_outline(self) -> int:
        """The parent's."""
        return self.source.without_outline

    @property
    def category_ids(self) -> tuple[int, ...]:
        """The parent's."""
        return self.source.category_ids

    def target(self, index: int) -> Any:
        """The parent's of that example."""
        return self.source.target(self.place(index))

    def image_id(self, index: int) -> Any:
        """The parent's of that example."""
        return self.source.image_id(self.place(index))


@dataclass
class Subset(OfSource):
    """The examples of `source` at `indices` (int64 (N,)), in that order."""

    source: Source
    indices: np.ndarray
    name: str
    also_left_out: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """The parent's, and what this choice leaves out."""
        return (*self.source.left_out, *self.also_left_out)

    @property
    def num_classes(self) -> int:
        """The parent's count: a subset keeps the label space."""
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """The parent's names."""
        return self.source.class_names

    def place(self, index: int) -> int:
        """In the parent."""
        return int(self.indices[index])

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        return self.source[self.place(index)]

    def labels(self) -> np.ndarray:
        """The chosen examples' labels, int64 (N,)."""
        return self.source.labels()[self.indices]


def pick_range(source: Source, indices: np.ndarray, name: str) -> Subset:
    """Keeps the examples at `indices`, int64 (n,) ascending: what a range such as "[:70%]" says.

    Where images lie in the order of their classes, as in a folder, a range of them would have other
    classes than the rest: there it counts in one fixed shuffle. Kept examples stay in the source's
    order. Reads every label once.
    """
    labels = source.labels()
    if _lie_by_class(labels):
        # RandomState: its permutations are frozen across numpy versions, unlike Generator's.
        indices = np.sort(np.random.RandomState(0).permutation(len(labels))[indices])
        name = f"{name} of one fixed shuffle"
    return _without_some(source, labels, indices, name)


def pick_stratified(source: Source, split: str, name: str) -> Subset:
    """Keeps of each class the range that a split such as "train[:80%,stratified]" says.

    Of images without labels it is a range of one fixed shuffle. Kept examples stay in the source's
    order. Reads every label once. ValueError for targets, whose images are of several classes.
    """
    refuse_targets(source, "split")
    labels = source.labels()
    return _without_some(source, labels, stratified_range(split, labels), name)


def _without_some(source: Source, labels: np.ndarray, indices: np.ndarray, name: str) -> Subset:
    """The examples at `indices`, which says the classes that it has none of."""
    lost = sorted(set(np.unique(labels)) - set(np.unique(labels[indices])) - {-1})
    said = ()
    if lost:
        first = ", ".join(repr(source.class_names[label]) for label in lost[:3])
        rest = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        said = (f"every image of the class {first}{rest}: the range has none",)
    return Subset(source, indices, name, said)


def _lie_by_class(labels: np.ndarray) -> bool:
    """Whether each class's examples follow one another, and some class has several."""
    distinct = len(np.unique(labels))
    return 1 < distinct < len(labels) and np.count_nonzero(np.diff(labels)) == distinct - 1


def refuse_targets(source: Source, field: str) -> None:
    """ValueError where a source's classes are those of objects or pixels, not of whole images."""
    if targets_of(source):
        raise ValueError(
            f"{field}: {source.name} has classes of objects or pixels, several in an image; give "
            "a list of images instead"
        )


def pick_per_class(source: Source, per_class: int, seed: int) -> Subset:
    """Keeps `per_class` examples of each class, the same ones for the same `seed`.

    The kept examples stay in the source's order. A class's choice depends on the seed and the
    class alone, not on the other classes. Reads every label once, which for a `tfds:` source means
    reading every record. Raises ValueError for unlabelled sources and for classes that have fewer.
    """
    if per_class < 1:
        raise ValueError(f"per_class: got {per_class}, expected a positive integer or None")
    if source.num_classes == 0:
        raise ValueError(f"per_class: got {per_class} for the unlabelled source {source.name}")
    refuse_targets(source, "per_class")
    labels = source.labels()
    counts = np.bincount(labels[labels >= 0], minlength=source.num_classes)
    if counts.min() < per_class:
        scarce = int(counts.argmin())
        raise ValueError(
            f"per_class: got {per_class}, but class {source.class_names[scarce]!r} of "
            f"{source.name} has only {counts[scarce]} images"
        )
    chosen = [
        np.random.default_rng((seed, label)).permutation(np.flatnonzero(labels == label))
        for label in range(source.num_classes)
    ]
    indices = np.sort(np.concatenate([rows[:per_class] for rows in chosen]))
    return Subset(source, indices, f"{source.name}, {per_class} per class (seed {seed})")
