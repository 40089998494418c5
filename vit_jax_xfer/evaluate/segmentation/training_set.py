"""Features and labels of the images that a probe is trained on, kept as far as memory goes."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from vit_jax_xfer.evaluate.benchmark import ALONE, Together
from vit_jax_xfer.evaluate.photographs import batches, features_of, places_of, read_squashed
from vit_jax_xfer.evaluate.segmentation.labelled_images import (
    LabelledImage,
    read_class_mask,
    shrunk,
)
from vit_jax_xfer.features.feature_extractor import FeatureExtractor


class TrainingSet:
    """Called with places of images, gives features (B, h, w, C) and labels (B, size, size).

    All features are computed once when it is made, by several processes each a share of them, which
    goes to all. The first ones are kept, up to `memory` bytes with their labels; the others are
    computed anew whenever they are asked for. labels: ids → labels, by index. mean, std: (C,)
    float64, of all cells. places: where they lie. report: called with how many images more are
    done, equally often on all processes.

    ValueError naming the file for one that can't be read, or whose features are not finite.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        images: Sequence[LabelledImage],
        size: int,
        labels: np.ndarray,
        memory: float,
        report: Callable[[int], None],
        together: Together = ALONE,
    ) -> None:
        self._extractor, self._images, self._size, self._labels = extractor, images, size, labels
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        cells = 0
        sums: list[np.ndarray] = []
        own = self._computed(images[together.index :: together.number])
        for _ in range(0, len(images), together.number):
            found = together.gathered(lambda: list(itertools.islice(own, 1)))
            for one, labelled in found:
                rows = one.reshape(-1, one.shape[-1]).astype(np.float64)
                # Sums around the first cell's features lose nothing where means are large.
                first = sums[0] if sums else rows[0]
                sums = sums or [first, np.zeros_like(first), np.zeros_like(first)]
                sums[1] += (rows - first).sum(0)
                sums[2] += np.square(rows - first).sum(0)
                cells += len(rows)
                self._keep(one, labelled, memory)
            report(len(found))
        self.places = places_of(extractor, one.shape[:2], extractor.side(size))
        shift = sums[1] / cells
        self.mean = sums[0] + shift
        self.std = np.sqrt(np.maximum(sums[2] / cells - np.square(shift), 0))

    def __call__(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = {place: self._kept[place] for place in places if place < len(self._kept)}
        missing = [place for place in dict.fromkeys(places.tolist()) if place not in found]
        anew = self._computed([self._images[place] for place in missing])
        found |= dict(zip(missing, anew, strict=True))
        features, labels = zip(*(found[place] for place in places), strict=True)
        return np.stack(features), np.stack(labels)

    def labels_of(self, image: LabelledImage) -> np.ndarray:
        """Labels (size, size) of an image."""
        return self._labels[shrunk(read_class_mask(image.mask), self._size)]

    def _keep(self, features: np.ndarray, labels: np.ndarray, memory: float) -> None:
        if (len(self._kept) + 1) * (features.nbytes + labels.nbytes) <= memory:
            self._kept.append((features.copy(), labels))

    def _computed(self, images: Sequence[LabelledImage]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Features (h, w, C) and labels (size, size) of images, computed a few at a time."""
        side = self._extractor.side(self._size)
        for batch in batches(images, side):
            files = [one.image for one in batch]
            photos = [read_squashed(x, side) for x in files]
            for image, one in zip(batch, features_of(self._extractor, photos, files), strict=True):
                yield one, self.labels_of(image)
