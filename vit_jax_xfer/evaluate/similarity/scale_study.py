"""How much features change with the size of the input: CKA between sizes.

The study of Suri et al. (LiFT, 2403.14625), whose details aren't published: here unbiased linear
CKA (see cka.py) by batches of images, cell by cell on the smaller size's grid.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vit_jax_xfer.arguments.array_checks import require_finite
from vit_jax_xfer.data.sources.integrity import check_files
from vit_jax_xfer.evaluate.benchmark import ItemBenchmark, Report, Result
from vit_jax_xfer.evaluate.photographs import batch_size, places_of, read_squashed
from vit_jax_xfer.evaluate.similarity.cka import aligned_rows, cka_from_terms, hsic_terms
from vit_jax_xfer.explain.image_files import find_images
from vit_jax_xfer.features.feature_extractor import FeatureExtractor

_ROWS = 4  # cells of a batch, without which there is no unbiased estimate
_IMAGES = 8  # in a batch whose terms are averaged with the others'


def open_scale_study(data: str, size: int, limit: int | None = None) -> "ScaleStudy":
    """The study of "folder:PATH", all images below it, at half of `size`, at it and at twice it.

    ValueError naming the layout, the folder, or a file that can't be read.
    """
    layout, _, path = data.partition(":")
    if layout != "folder" or not path:
        raise ValueError(f"data: got {data!r}, expected folder:PATH")
    files = find_images([Path(path).expanduser()])[:limit]
    check_files([str(file) for file in files], path)
    return ScaleStudy(files, (size // 2, size, 2 * size))


def study_sizes(side: int, patch: int) -> tuple[int, ...]:
    """Half of a side, it, and twice it, in whole patches of so many pixels."""
    return tuple(max(1, round(n / patch)) * patch for n in (side / 2, side, 2 * side))


@dataclasses.dataclass(frozen=True)
class ScaleStudy(ItemBenchmark):
    """Images squashed to squares of each of `sizes` pixels, their features compared by pairs.

    pairwise: all pairs of sizes; False = each with the largest. Every extractor gets the same
    batches, which differ by one image at most, so that none is left out. ValueError naming an
    image that can't be read, for fewer than two sizes, and for fewer than 4 cells in a batch.
    """

    files: Sequence[Path]
    sizes: Sequence[int]
    pairwise: bool = False
    name: str = "scale"

    def __post_init__(self) -> None:
        if len(set(self.sizes)) < 2 or len(set(self.sizes)) < len(self.sizes):
            given = ", ".join(map(str, self.sizes)) or "none"
            raise ValueError(f"sizes: expected two or more different ones, got {given}")

    @property
    def size(self) -> int:
        """The largest."""
        return max(self.sizes)

    @property
    def photographs(self) -> int:
        """All, as often as they were of the largest size."""
        return round(len(self.files) * sum(size**2 for size in self.sizes) / self.size**2)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(smaller, larger) in the order of the columns."""
        pairs = list(itertools.combinations(sorted(self.sizes), 2))
        return [pair for pair in pairs if self.pairwise or pair[1] == self.size]

    @property
    def _batches(self) -> list[np.ndarray]:
        """Places of the images that go together."""
        return np.array_split(np.arange(len(self.files)), -(-len(self.files) // _IMAGES))

    @property
    def items(self) -> int:
        """Batches, of each of which features are compared."""
        return len(self._batches)

    def outcomes(
        self, extractor: FeatureExtractor, part: range, report: Report | None = None
    ) -> list[list[np.ndarray]]:
        """The terms of CKA of some batches, one of each of `pairs`."""
        outcomes: list[list[np.ndarray]] = []
        batches = self._batches[part.start : part.stop]
        done, total = 0, sum(map(len, batches))
        for batch in batches:
            files = [self.files[i] for i in batch]
            terms = []
            maps = {size: self._features(extractor, files, size) for size in sorted(self.sizes)}
            for small, large in self.pairs:
                places = [
                    places_of(extractor, maps[size].shape[1:3], extractor.side(size))
                    for size in (small, large)
                ]
                rows = aligned_rows(maps[small], maps[large], *places)
                if len(rows[0]) < _ROWS:
                    raise ValueError(
                        f"sizes: {len(files)} images have {len(rows[0])} cells together at {small} "
                        f"pixels, {_ROWS} are needed; give more images or leave that size out"
                    )
                terms.append(np.asarray(hsic_terms(*rows, unbiased=True)))
            outcomes.append(terms)
            done += len(files)
            if report:
                report(done, total)
        return outcomes

    def result(self, outcomes: Sequence[Sequence[np.ndarray]]) -> Result:
        """CKA of each pair of sizes."""
        figures = {
            f"CKA {small}/{large}": float(cka_from_terms(np.mean(found, axis=0)))
            for (small, large), found in zip(self.pairs, zip(*outcomes, strict=True), strict=True)
        }
        return Result(figures, {})

    def _features(
        self, extractor: FeatureExtractor, files: Sequence[Path], size: int
    ) -> np.ndarray:
        side = extractor.side(size)
        step = min(batch_size(side), _IMAGES)
        parts = [files[start : start + step] for start in range(0, len(files), step)]
        found = []
        for part in parts:
            features = np.asarray(extractor(np.stack([read_squashed(x, side) for x in part])))
            for file, one in zip(part, features, strict=True):
                require_finite(f"{file}: features", one)
            found.append(features)
        return np.concatenate(found)
