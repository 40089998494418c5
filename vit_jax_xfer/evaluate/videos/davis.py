"""Video object segmentation scored as the DAVIS 2017 challenge does, its semi-supervised track.

Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation", arXiv 1704.00675.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.arguments.array_checks import require_equal
from vit_jax_xfer.evaluate.videos.video_metrics import contour_accuracy, region_similarity

VOID = 255


class VideoScore(NamedTuple):
    """J and F of each object in each scored frame of a video, both (objects, frames) float32."""

    region: np.ndarray
    contour: np.ndarray


class Statistics(NamedTuple):
    """Mean over frames, share of frames above 0.5, and loss from the first quarter to the last."""

    mean: float
    recall: float
    decay: float


class DavisScore(NamedTuple):
    """J&F and its halves, over all objects of all videos, each of them counting the same.

    per_object: {"video_1": (J, F)}, means over frames. skipped: videos without any object.
    """

    j_and_f: float
    j: Statistics
    f: Statistics
    per_object: dict[str, tuple[float, float]]
    skipped: tuple[str, ...]


def score_video(prediction: np.ndarray, truth: np.ndarray) -> VideoScore:
    """J and F of a video's masks (T, H, W), integers: 0 = background, k = object k, 255 = void.

    The objects are those that the first frame's truth shows, by rising label; numbers between
    them that it doesn't show are no objects. The first frame, which was given, and the last one
    aren't scored. Void is background, as in the challenge's figures; DAVIS 2016's masks of 0 and
    255 must be made 0 and 1 before. An object that a later frame doesn't show scores 1 there if
    nothing is predicted. Without an object the arrays have no row.
    ValueError for fewer than 3 frames, and for predicted objects that the first frame lacks.
    """
    prediction, truth = np.asarray(prediction), np.asarray(truth)
    require_equal("prediction", prediction.shape, truth.shape, "truth")
    if truth.ndim != 3 or len(truth) < 3:
        raise ValueError(f"truth: expected (T, H, W) with at least 3 frames, got {truth.shape}")
    for name, masks in (("prediction", prediction), ("truth", truth)):
        if not np.issubdtype(masks.dtype, np.integer):
            raise ValueError(f"{name}: expected integer labels, got {masks.dtype}")
    objects = labels_of(truth[0])
    scored = prediction[1:-1]
    if unknown := np.setdiff1d(labels_of(scored), objects).tolist():
        has = ", ".join(map(str, objects.tolist())) or "0 objects"
        raise ValueError(f"prediction: object {unknown[-1]}; the first frame of truth has {has}")
    if not len(objects):
        return VideoScore(*np.zeros((2, 0, len(truth) - 2), np.float32))
    frames = [_score_frame(p, t, objects) for p, t in zip(scored, truth[1:-1], strict=True)]
    return VideoScore(*np.asarray(frames, np.float32).transpose(1, 2, 0))


def labels_of(mask: np.ndarray) -> np.ndarray:
    """The objects' labels in a mask (...), rising: what is neither background nor void."""
    return np.setdiff1d(np.unique(mask), (0, VOID))


@jax.jit
def _score_frame(prediction: jax.Array, truth: jax.Array, objects: jax.Array) -> jax.Array:
    """(2, objects): J and F of a frame (H, W), of the objects' labels (objects,)."""
    labels = objects[:, None, None]
    masks = prediction == labels, truth == labels
    return jnp.stack([region_similarity(*masks), contour_accuracy(*masks)])


def frame_statistics(values: np.ndarray) -> Statistics:
    """Mean, recall and decay of an object's J or F (frames,), in the challenge's quarters."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"values: expected (frames,), at least one, got shape {values.shape}")
    # Neighbouring quarters share a frame. The challenge keeps the edges in 8 bits, so that beyond
    # 256 frames its decay is another; no video of DAVIS is that long.
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = (values[edges[i] : edges[i + 1] + 1] for i in (0, 3))
    return Statistics(
        float(values.mean()), float((values > 0.5).mean()), float(first.mean() - last.mean())
    )


def davis_score(videos: Mapping[str, VideoScore]) -> DavisScore:
    """The figures of a whole set; NaN throughout when no video has an object."""
    regions, contours, per_object = [], [], {}
    for name, video in videos.items():
        for k, (region, contour) in enumerate(zip(*video, strict=True), start=1):
            regions.append(frame_statistics(region))
            contours.append(frame_statistics(contour))
            per_object[f"{name}_{k}"] = (regions[-1].mean, contours[-1].mean)
    skipped = tuple(name for name, video in videos.items() if not len(video.region))
    j, f = (
        Statistics(*np.mean(parts, axis=0).tolist()) if parts else Statistics(*[float("nan")] * 3)
        for parts in (regions, contours)
    )
    return DavisScore((j.mean + f.mean) / 2, j, f, per_object, skipped)
