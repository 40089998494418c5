"""A suite, its sets of images, and what counts as a hit on them."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vit_jax_xfer.data.sources.class_match import are_numbers, match_classes
from vit_jax_xfer.data.sources.source import Source


@dataclasses.dataclass(frozen=True)
class SuiteSet:
    """Images that are scored by themselves.

    name: "a", "c/fog/3". truths: the names of the classes that are right for each image, none where
    it isn't scored; None = the source's own label. scored: the classes that can be predicted; None
    = all of the model's. crop_only: whether images are at the network's size but for a crop.
    numbered: whether published networks have its classes by number, so that outputs without names
    are these (iNaturalist's categories). renamed: what the model calls some of the classes.
    """

    name: str
    source: Source
    truths: tuple[tuple[str, ...], ...] | None = None
    scored: tuple[str, ...] | None = None
    crop_only: bool = False
    numbered: bool = False
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def targets(self, outputs: Sequence[str]) -> np.ndarray:
        """The numbers of the outputs that are right for each image, int32 (N, M), -1 where fewer.

        outputs: the names of the model's. ValueError for a class that is none of them, or none of
        those that can be predicted.
        """
        if self.truths is not None:
            names = sorted({name for right in self.truths for name in right})
            places = dict(zip(names, self._match(names, outputs), strict=True))
            found = np.full((len(self.truths), max(map(len, self.truths), default=0)), -1, np.int32)
            for row, right in zip(found, self.truths, strict=True):
                row[: len(right)] = [places[name] for name in right]
            return found
        labels = self.source.labels()
        if labels.min(initial=0) < 0:
            raise ValueError(f"{self.name}: {self.source.name} has images without a class")
        if self.matched_by_number(outputs):
            return labels[:, None].astype(np.int32)
        # tfds has labels of all classes for sets that have some; those without images don't matter.
        used = np.unique(labels)
        names = [self.source.class_names[label] for label in used]
        match = self._match(names, outputs)
        return match[np.searchsorted(used, labels)][:, None]

    def predictable(self, outputs: Sequence[str]) -> np.ndarray | None:
        """(K,) bool: the outputs that take part; None = all."""
        if self.scored is None:
            return None
        return np.isin(np.arange(len(outputs)), self._match(self.scored, outputs))

    def matched_by_number(self, outputs: Sequence[str]) -> bool:
        """Whether outputs without names are the set's classes in their order."""
        return self.numbered and are_numbers(outputs) and len(outputs) == self.source.num_classes

    def classes_with_images(self) -> int:
        """How many of its source's classes have images, by name."""
        labels = np.unique(self.source.labels())
        return len({self.source.class_names[label] for label in labels[labels >= 0]})

    def with_class_map(self, class_map: Mapping[str, str]) -> "SuiteSet":
        """The set for a model that calls some of its classes otherwise.

        class_map: from the set's names to the model's. ValueError where it renames none.
        """
        own = {name for right in self.truths or () for name in right}
        own |= {*(self.scored or ()), *self.source.class_names}
        if class_map and not own & set(class_map):
            raise ValueError(
                f"class_map: it renames {', '.join(map(repr, list(class_map)[:3]))}, …, and none "
                f"of these is a class of {self.name}; it goes from the set's names to the model's"
            )
        return dataclasses.replace(self, renamed=dict(class_map))

    def _match(self, names: Sequence[str], outputs: Sequence[str]) -> np.ndarray:
        called = [self.renamed.get(name, name) for name in names]
        try:
            table = match_classes(called, outputs).table
        except ValueError as error:
            raise ValueError(f"{self.name}: {self.source.name}: {error}") from None
        strange = [] if self.scored is None else sorted(set(names) - set(self.scored))
        if strange:
            raise ValueError(
                f"{self.name}: {self.source.name}: its class {strange[0]!r} is none of the "
                f"{len(self.scored or ())} that are predicted on this set"
            )
        return table


@dataclasses.dataclass(frozen=True)
class Opening:
    """How a suite is opened.

    root: the folder that all suites lie in. partial: a part will do. report: called with how many
    of its sets are open and how many there are.
    """

    root: pathlib.Path
    partial: bool
    report: Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Suite:
    """A published set.

    about: a few words. places: its folders or archives below the root, the first that is there is
    taken. images, classes: of the whole set, 0 = not published. open: its sets, from one of the
    places.
    """

    name: str
    about: str
    places: tuple[str, ...]
    images: int
    classes: int
    open: Callable[["Suite", pathlib.Path, Opening], list[SuiteSet]]

    def check_whole(self, source: Source, classes: int, partial: bool) -> None:
        """ValueError where its images, or classes with images, aren't all there and must be."""
        if self.images and not partial and (len(source), classes) != (self.images, self.classes):
            raise ValueError(
                f"{self.name}: {source.name} has {len(source):,} images of {classes:,} classes, "
                f"and the whole set {self.images:,} of {self.classes:,}; --partial takes it as it "
                "is"
            )
