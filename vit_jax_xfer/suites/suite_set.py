"""One set of images of a suite, and what counts as a hit on it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vit_jax_xfer.data.sources.class_match import match_classes
from vit_jax_xfer.data.sources.source import Source


@dataclasses.dataclass(frozen=True)
class SuiteSet:
    """Images that are scored by themselves.

    name: "a", "c/fog/3". truths: the names of the classes that are right for each image, none where
    it isn't scored; None = the source's own label. scored: the classes that can be predicted; None
    = all of the model's. crop_only: whether images are at the network's size but for a crop.
    """

    name: str
    source: Source
    truths: tuple[tuple[str, ...], ...] | None = None
    scored: tuple[str, ...] | None = None
    crop_only: bool = False

    def targets(self, outputs: Sequence[str]) -> np.ndarray:
        """Which outputs are right for each image, (N, K) bool. ValueError for an unknown class.

        outputs: the names of the model's.
        """
        found = np.zeros((len(self.source), len(outputs)), bool)
        if self.truths is None:
            # tfds has labels of all classes for sets that have some; those without images don't
            # matter.
            labels = self.source.labels()
            used = np.unique(labels)
            names = [self.source.class_names[label] for label in used]
            match = self._match(names, outputs)
            found[np.arange(len(found)), match[np.searchsorted(used, labels)]] = True
            return found
        names = sorted({name for right in self.truths for name in right})
        places = dict(zip(names, self._match(names, outputs), strict=True))
        for row, right in zip(found, self.truths, strict=True):
            row[[places[name] for name in right]] = True
        return found

    def predictable(self, outputs: Sequence[str]) -> np.ndarray | None:
        """(K,) bool: the outputs that take part; None = all."""
        if self.scored is None:
            return None
        return np.isin(np.arange(len(outputs)), self._match(self.scored, outputs))

    def _match(self, names: Sequence[str], outputs: Sequence[str]) -> np.ndarray:
        try:
            return match_classes(names, outputs).table
        except ValueError as error:
            raise ValueError(f"{self.name}: {self.source.name}: {error}") from None
