"""Video object segmentation on a data set: the first mask carried along by similarity of features.

The protocol of DINO's and LiFT's evaluations (arXiv 2104.14294, 2403.14625), scored as the DAVIS
challenge does (arXiv 1704.00675).
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from vit_jax_xfer.arguments.array_checks import require_finite
from vit_jax_xfer.data.images import resize
from vit_jax_xfer.evaluate.benchmark import ItemBenchmark, Report, Result
from vit_jax_xfer.evaluate.folder_name import folder_name
from vit_jax_xfer.evaluate.photographs import places_of, read_photograph
from vit_jax_xfer.evaluate.videos.davis import (
    VOID,
    VideoScore,
    davis_score,
    labels_of,
    score_video,
)
from vit_jax_xfer.evaluate.videos.label_grids import (
    PREVIOUS,
    grid_labels,
    mask_from_labels,
    propagate_video,
)
from vit_jax_xfer.evaluate.videos.label_propagation import propagate_labels
from vit_jax_xfer.evaluate.videos.mask_files import save_masks
from vit_jax_xfer.evaluate.videos.video import Video
from vit_jax_xfer.evaluate.videos.video_layouts import open_videos
from vit_jax_xfer.features.cost_estimate import seconds_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor

RADIUS = 12
# A video's name, its score, and how many of its objects vanished on the grid.
Outcome = tuple[str, VideoScore, int]
_LARGEST = 2048  # pixels of an enlarged map of labels: 17 MB an object


def open_videos_benchmark(
    data: str,
    size: int,
    limit: int | None = None,
    frames: int | None = None,
    radius: int = RADIUS,
    masks_folder: Path | None = None,
) -> "VideoSegmentation":
    """The benchmark of "davis2016:PATH" or "davis2017:PATH"; limit, frames: as in open_videos.

    ValueError naming the file that isn't as it should be.
    """
    name, videos = open_videos(data, limit, frames)
    return VideoSegmentation(name, videos, size, radius, masks_folder)


class VideoSegmentation(ItemBenchmark):
    """Figures J&F, J and F, means over all objects of all videos.

    A FeatureExtractor gets frames squashed to squares of `side(size)` pixels. radius: how many
    cells of its grid an object may move, as published also where cells are smaller; 0 = anywhere.
    masks_folder: where predicted masks are written, as EXTRACTOR/VIDEO/00000.png. Skipped: videos
    whose first mask has no object and objects that appear later, which don't count, and objects of
    which no cell is left when the first mask shrinks to the grid, which do, as never found.

    Memory: features of nine frames, labels of one video. 448 pixels of a ViT-S/16 with LiFT peak at
    1.0 GB on a CPU (a grid of 56 × 56), with LiFT twice at 1.4 GB (112 × 112).
    """

    def __init__(
        self,
        name: str,
        videos: Sequence[Video],
        size: int,
        radius: int = RADIUS,
        masks_folder: Path | None = None,
    ) -> None:
        self.name = name
        self.size = size
        self._videos = videos
        self._radius = radius
        self._masks_folder = masks_folder

    @property
    def photographs(self) -> int:
        """All frames."""
        return sum(len(video.frames) for video in self._videos)

    @property
    def items(self) -> int:
        """Videos."""
        return len(self._videos)

    def seconds_besides(self, extractor: FeatureExtractor) -> float:
        """Of carrying one object's mask along all frames, by one frame that is made up."""
        h, w = extractor.grid(self.size)
        seen = PREVIOUS + 1

        def make() -> Callable[[], jax.Array]:
            shape = (seen, h, w, extractor.channels(self.size))
            frames = jax.random.normal(jax.random.key(0), shape)
            known = jax.nn.one_hot((frames[..., 0] > 0).astype(np.int32), 2)
            return lambda: jax.block_until_ready(
                propagate_labels(frames, known, frames[0], self._radius)
            )

        reach = self._radius or max(h, w)
        window = min(2 * reach + 1, h) * min(2 * reach + 1, w)
        return seconds_of(make, self.photographs, float(h * w * window * seen))

    def reports(self, part: range) -> int:
        """One a frame."""
        return sum(len(self._videos[i].frames) for i in part)

    def outcomes(
        self, extractor: FeatureExtractor, part: range, report: Report | None = None
    ) -> list[Outcome]:
        """Runs some videos, frame by frame."""
        outcomes: list[Outcome] = []
        done, total = 0, self.reports(part)

        def frame_done(frames: int = 1) -> None:
            nonlocal done
            done += frames
            if report is not None:
                report(done, total)

        for video in (self._videos[i] for i in part):
            truth, vanished = video.truth(), 0
            first = np.where(truth[0] == VOID, 0, truth[0])
            if first.any():
                masks, lost = segment(
                    extractor, self.size, video.frames, first, self._radius, frame_done
                )
                vanished = len(lost)
            else:
                masks = np.zeros_like(truth)
                frame_done(len(video.frames))
            if self._masks_folder is not None:
                folder = self._masks_folder / folder_name(extractor.name) / video.name
                save_masks(folder, [file.stem for file in video.masks], masks)
            outcomes.append((video.name, score_video(masks, truth), vanished))
        return outcomes

    def result(self, outcomes: Sequence[Outcome]) -> Result:
        """Means over all objects, and what was left out."""
        scores = {name: score for name, score, _ in outcomes}
        vanished = sum(number for _, _, number in outcomes)
        score = davis_score(scores)
        return Result(
            {"J&F": score.j_and_f, "J": score.j.mean, "F": score.f.mean},
            {
                "objects vanished on the grid": vanished,
                "objects that appear later": sum(video.later for video in self._videos),
                "videos": len(score.skipped),
            },
        )


def segment(
    extractor: FeatureExtractor,
    size: int,
    frames: Sequence[Path],
    first: np.ndarray,
    radius: int = RADIUS,
    frame_done: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Masks (T, H, W) uint8 of photographs from that of the first one, (H, W) without void.

    Also the objects that vanished on the grid, which no mask but the first has. size: of the square
    input, before the extractor enlarges it. ValueError naming a photograph that can't be read.
    """
    grid = extractor.grid(size)
    places = places_of(extractor, grid, extractor.side(size))
    objects = labels_of(first)
    # Numbers may have gaps, for which there would be channels of nothing.
    numbered = np.searchsorted(objects, first, side="right")
    labels, gone = grid_labels(numbered, grid, len(objects), places)

    def features() -> Iterator[jax.Array]:
        side = extractor.side(size)
        for path in frames:
            photo = resize(read_photograph(path), side, side, "bicubic")
            found = extractor(np.asarray(photo)[None])[0]
            require_finite(f"{path}: features", found)
            yield found
            frame_done()

    enlargement = mask_enlargement(extractor.backbone.patch_size, places.even_grid)
    propagated = propagate_video(features(), labels, radius=radius)
    own = np.concatenate([[0], objects])
    masks = [
        own[mask_from_labels(frame, enlargement, first.shape, places)] for frame in propagated[1:]
    ]
    vanished = tuple(int(own[number]) for number in gone)
    return np.stack([first, *masks]).astype(np.uint8), vanished


def mask_enlargement(patch_size: int, grid: tuple[int, int]) -> int:
    """By how much labels are enlarged before each pixel is decided.

    By the patch size as published, whatever the grid, which gives a denser grid a larger map. A map
    beyond 2048 pixels is enlarged less: a frame's pixels are fewer.
    """
    return max(min(patch_size, _LARGEST // max(grid)), 1)
