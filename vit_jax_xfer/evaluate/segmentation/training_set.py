"""Features and labels of the images that a probe is trained on, kept as far as memory goes."""

from collections.abc import Callable, Sequence

import numpy as np

from vit_jax_xfer.evaluate.photographs import batches, features_of, places_of, read_squashed
from vit_jax_xfer.evaluate.segmentation.labelled_images import (
    LabelledImage,
    read_class_mask,
    shrunk,
)
from vit_jax_xfer.features.feature_extractor import FeatureExtractor


class TrainingSet:
    """Called with places of images, gives features (B, h, w, C) and labels (B, size, size).

    All features are computed once when it is made. The first ones are kept, up to `memory` bytes
    with their labels; the others are computed anew whenever they are asked for. labels: ids →
    labels, by index. mean, std: (C,) float64, of all cells. places: where they lie.
    report: called after each image.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        images: Sequence[LabelledImage],
        size: int,
        labels: np.ndarray,
        memory: float,
        report: Callable[[], None],
    ) -> None:
        self._extractor, self._images, self._size, self._labels = extractor, images, size, labels
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        cells = 0
        sums: list[np.ndarray] = []
        for batch in batches(images, extractor.side(size)):
            features = self._compute(batch)
            for image, one in zip(batch, features, strict=True):
                rows = one.reshape(-1, one.shape[-1]).astype(np.float64)
                # Sums around the first cell's features lose nothing where means are large.
                first = sums[0] if sums else rows[0]
                sums = sums or [first, np.zeros_like(first), np.zeros_like(first)]
                sums[1] += (rows - first).sum(0)
                sums[2] += np.square(rows - first).sum(0)
                cells += len(rows)
                self._keep(image, one, memory)
                report()
        self.places = places_of(extractor, features.shape[1:3], extractor.side(size))
        shift = sums[1] / cells
        self.mean = sums[0] + shift
        self.std = np.sqrt(np.maximum(sums[2] / cells - np.square(shift), 0))

    def __call__(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = {place: self._kept[place] for place in places if place < len(self._kept)}
        missing = [place for place in dict.fromkeys(places.tolist()) if place not in found]
        for batch in batches(missing, self._extractor.side(self._size)):
            features = self._compute([self._images[place] for place in batch])
            for place, one in zip(batch, features, strict=True):
                found[place] = one, self.labels_of(self._images[place])
        features, labels = zip(*(found[place] for place in places), strict=True)
        return np.stack(features), np.stack(labels)

    def labels_of(self, image: LabelledImage) -> np.ndarray:
        """Labels (size, size) of an image."""
        return self._labels[shrunk(read_class_mask(image.mask), self._size)]

    def _keep(self, image: LabelledImage, features: np.ndarray, memory: float) -> None:
        labels = self.labels_of(image)
        if (len(self._kept) + 1) * (features.nbytes + labels.nbytes) <= memory:
            self._kept.append((features.copy(), labels))

    def _compute(self, images: Sequence[LabelledImage]) -> np.ndarray:
        side = self._extractor.side(self._size)
        files = [one.image for one in images]
        return features_of(self._extractor, [read_squashed(x, side) for x in files], files)
