"""How often TokenCut's one box is right on a data set (CorLoc).

Protocol: Wang et al. (TokenCut, 2202.11539) as run for LiFT (2403.14625).
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from vit_jax_xfer.data.sources.upright_photo import read_photograph
from vit_jax_xfer.evaluate.benchmark import ItemBenchmark, Report, Result
from vit_jax_xfer.evaluate.objects.box_layouts import open_boxes
from vit_jax_xfer.evaluate.objects.boxed_images import BoxedImage
from vit_jax_xfer.evaluate.objects.object_discovery import (
    Discovery,
    box_in_pixels,
    corloc,
    tokencut,
)
from vit_jax_xfer.evaluate.photographs import batches, features_of, places_of, squashed
from vit_jax_xfer.features.cost_estimate import seconds_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.models.cell_places import CellPlaces


@dataclasses.dataclass(frozen=True, eq=False)
class FoundObject:
    """What was found on an image. photo: uint8 (H, W, 3). places: where the discovery's cells lie.
    box: (y0, x0, y1, x1) in the photograph's pixels. right: whether it is a true one."""

    image: BoxedImage
    photo: np.ndarray
    discovery: Discovery
    places: CellPlaces
    box: np.ndarray
    right: bool


Draw = Callable[[FeatureExtractor, FoundObject], None]


@dataclasses.dataclass(eq=False)
class ObjectBenchmark(ItemBenchmark):
    """Photographs are squashed to size × size pixels and cut in two; one box is found on each.

    It is compared with the true ones in pixels of size × size, whatever an extractor enlarges,
    true ones rounded towards zero; right is an IoU of 0.5 or more with any. True boxes without a
    pixel are never found. Images without objects don't count. dropped: as in BoxedImages. draw:
    called for each image, also where it doesn't count. ValueError naming the file for a photograph
    that can't be read, and for features that can't be cut.
    """

    images: Sequence[BoxedImage]
    size: int
    tau: float
    dropped: str = "hard objects"
    draw: Draw | None = None
    name: str = "objects"

    @property
    def photographs(self) -> int:
        """All images."""
        return len(self.images)

    @property
    def items(self) -> int:
        """All images."""
        return len(self.images)

    def seconds_besides(self, extractor: FeatureExtractor) -> float:
        """Of cutting all images, by one that is made up; on photographs it may take another."""
        h, w = extractor.grid(self.size)

        def make() -> Callable[[], Discovery]:
            draw = np.random.default_rng(0).standard_normal
            channels = extractor.channels(self.size)
            # Alike within nine parts, as an object and what is behind it are.
            parts = draw((3, 3, channels)).repeat(-(-h // 3), 0).repeat(-(-w // 3), 1)[:h, :w]
            features = (parts + draw((h, w, channels))).astype(np.float32)
            return lambda: tokencut(features, self.tau)

        return seconds_of(make, self.items, float(h * w) ** 2)

    def outcomes(
        self, extractor: FeatureExtractor, part: range, report: Report | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The box (4,) that was found on each of some images, and the true ones (N, 4)."""
        side = extractor.side(self.size)
        found: list[np.ndarray] = []
        truths: list[np.ndarray] = []
        for batch in batches(self.images[part.start : part.stop], side):
            files = [image.file for image in batch]
            photos = [read_photograph(file) for file in files]
            features = features_of(extractor, [squashed(photo, side) for photo in photos], files)
            for image, photo, one in zip(batch, photos, features, strict=True):
                discovery = self._cut(image, one)
                grid, square = one.shape[:2], (self.size, self.size)
                places = places_of(extractor, grid, side)
                found.append(np.array(box_in_pixels(discovery.box, grid, square, places)))
                scale = self.size / np.tile(photo.shape[:2], 2)
                truths.append(np.trunc(image.boxes * scale))
                if self.draw:
                    right = bool(corloc(found[-1][None], truths[-1:]).correct[0])
                    box = found[-1] / scale
                    self.draw(extractor, FoundObject(image, photo, discovery, places, box, right))
                if report:
                    report(len(found), len(part))
        return list(zip(found, truths, strict=True))

    def result(self, outcomes: Sequence[tuple[np.ndarray, np.ndarray]]) -> Result:
        """The share of images whose box is right."""
        found, truths = zip(*outcomes, strict=True) if outcomes else ((), ())
        score = corloc(np.array(found), list(truths))
        skipped = {
            "images without objects": int(score.skipped.sum()),
            self.dropped: sum(image.dropped for image in self.images),
        }
        return Result({"CorLoc": score.rate}, skipped)

    def _cut(self, image: BoxedImage, features: np.ndarray) -> Discovery:
        try:
            return tokencut(features, self.tau)
        except ValueError as error:
            raise ValueError(f"{image.file}: {error}") from None


def open_objects(
    data: str,
    size: int,
    limit: int | None = None,
    tau: float | None = None,
    hard: bool = True,
    draw: Draw | None = None,
) -> ObjectBenchmark:
    """The benchmark of a data set as `open_boxes` takes it, checked.

    limit: only so many images, the first. tau: None = the published one of the layout.
    """
    opened = open_boxes(data, hard)
    tau = opened.tau if tau is None else tau
    if not -1 <= tau < 1:
        raise ValueError(f"tau: got {tau:g}, expected a cosine from -1 to below 1")
    images = opened.images[:limit]
    if not any(len(image.boxes) for image in images):
        raise ValueError(f"data: {data}: none of {len(images)} images has an object that counts")
    name = f"{data.partition(':')[0]}_objects"
    return ObjectBenchmark(images, size, tau, opened.dropped, draw, name)
