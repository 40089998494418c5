"""Some classes of a source, as if it had no others."""

import difflib
from dataclasses import dataclass

import numpy as np

from vit_jax_xfer.data.sources.class_lists import read_classes
from vit_jax_xfer.data.sources.source import Source, refuse_targets


@dataclass
class ClassSubset:
    """The examples of `source` at `indices`, with labels of their own: both int64 (N,)."""

    source: Source
    indices: np.ndarray
    all_labels: np.ndarray
    class_names: tuple[str, ...]
    name: str

    @property
    def left_out(self) -> tuple[str, ...]:
        """The parent's, and how many images have another class, or none."""
        number = len(self.source) - len(self.indices)
        own = (f"{number} images of other classes or without one",) if number else ()
        return (*self.source.left_out, *own)

    @property
    def num_classes(self) -> int:
        """How many classes were chosen, with or without images."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> dict:
        example = self.source[int(self.indices[index])]
        return {**example, "label": int(self.all_labels[index])}

    def labels(self) -> np.ndarray:
        """The chosen examples' labels, int64 (N,), kept from when they were chosen."""
        return self.all_labels


def pick_classes(source: Source, classes: str, some: bool = False) -> ClassSubset:
    """Keeps the images of the classes that `classes` stands for (see `read_classes`).

    A label becomes the rank of its name among the kept names, sorted as strings, as for a folder
    with just those classes: of "3,10" class "10" is 0. Images stay in the source's order; those
    without a label (-1) are left out, since their class isn't known; a class may be without images
    where a split or a range of it has none. Reads every label once, which for a `tfds:` source
    means reading every record. some: the source need not have all of them, only one. Raises
    ValueError for a name that the source lacks or has twice, for an unlabelled source, and where
    no image is left.
    """
    refuse_targets(source, "classes")
    names = read_classes(classes)
    if source.num_classes == 0:
        raise ValueError(f"classes: got {classes!r} for the unlabelled source {source.name}")
    if some:
        names = tuple(name for name in names if name in source.class_names) or names
    _check_names(names, source)
    ranks = np.full(source.num_classes + 1, -1)  # one more, at the end: it is what -1 points to
    ranks[[source.class_names.index(name) for name in names]] = np.arange(len(names))
    labels = ranks[source.labels()]
    indices = np.flatnonzero(labels >= 0)
    if not len(indices):
        raise ValueError(f"classes: {source.name} has no image of the classes {classes!r}")
    name = f"{source.name}, {len(names)} classes"
    return ClassSubset(source, indices, labels[indices], names, name)


def _check_names(names: tuple[str, ...], source: Source) -> None:
    missing = [name for name in names if name not in source.class_names]
    if missing:
        near = difflib.get_close_matches(missing[0], source.class_names, n=3, cutoff=0.0)
        more = f" (and {len(missing) - 1} more are not)" if len(missing) > 1 else ""
        raise ValueError(
            f"classes: {missing[0]!r} is not in {source.name}{more}; the nearest of its "
            f"{source.num_classes} are {', '.join(repr(name) for name in near)}"
        )
    twice = next((name for name in names if source.class_names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"classes: {source.name} has two classes of the name {twice!r}")
