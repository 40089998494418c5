"""Between masks of a video's frames and labels on the grid of features, and along the video.

As DINO's video segmentation does it (arXiv 2104.14294), with what it leaves undefined defined.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.arguments.array_checks import require_finite, require_shape
from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.evaluate.videos.label_propagation import propagate_labels
from vit_jax_xfer.models.cell_places import CellAxis, CellPlaces, even_places, places_or_even

PREVIOUS = 7  # frames before it that a frame looks at, beside the first


class GridLabels(NamedTuple):
    """labels: (h, w, 1 + objects) float32, one-hot, the background first.
    vanished: the objects of the mask of which no cell is left, ascending."""

    labels: jax.Array
    vanished: tuple[int, ...]


def grid_labels(
    mask: np.ndarray,
    grid: tuple[int, int],
    num_objects: int | None = None,
    places: CellPlaces | None = None,
) -> GridLabels:
    """A mask (H, W) of integers, 0 = background, shrunk to (h, w) by its nearest pixels.

    places: where the grid's cells lie, of patches that overlap; None = they share the mask evenly.

    num_objects: None = the largest label. An object that vanishes keeps its channel, all zero, and
    is named. ValueError for labels beyond num_objects (255, DAVIS's void, must be set to 0 before).
    """
    mask = np.asarray(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(f"mask: expected (H, W) integers, got {mask.shape} of {mask.dtype}")
    objects = int(mask.max()) if num_objects is None else num_objects
    if mask.min() < 0 or mask.max() > objects:
        raise ValueError(
            f"mask: labels from {mask.min()} to {mask.max()}, expected 0 to {objects} (num_objects)"
        )
    axes = places_or_even(places, grid)
    rows, columns = (_nearest(old, axis) for old, axis in zip(mask.shape, axes, strict=True))
    shrunk = mask[rows[:, None], columns]
    vanished = np.setdiff1d(np.unique(mask), np.append(np.unique(shrunk), 0))
    return GridLabels(jax.nn.one_hot(shrunk, objects + 1), tuple(int(k) for k in vanished))


def mask_from_labels(
    labels: jax.Array,
    patch_size: int,
    image_size: tuple[int, int],
    places: CellPlaces | None = None,
) -> np.ndarray:
    """Labels (h, w, K) → a mask of integers (H, W): the strongest label of each pixel.

    Enlarged bilinearly by patch_size, each channel stretched to 0 … 1, then taken to image_size by
    the nearest pixel. A channel that is one value throughout is left as it is. places: as in
    grid_labels; those of patches that overlap are interpolated to cells side by side before.
    """
    labels = jnp.asarray(labels)
    require_shape("labels", labels, "(h, w, K)")
    require_finite("labels", labels)
    labels = jnp.asarray(places_or_even(places, labels.shape[:2]).to_even(labels))
    h, w, channels = labels.shape
    large = (h * patch_size, w * patch_size, channels)
    enlarged = jax.image.resize(labels.astype(jnp.float32), large, "bilinear")
    low, high = enlarged.min((0, 1)), enlarged.max((0, 1))
    varies = high > low
    stretched = (enlarged - low) / jnp.where(varies, high - low, 1.0)
    strongest = jnp.where(varies, stretched, enlarged).argmax(-1)
    return nearest(np.asarray(strongest), image_size)


def propagate_video(
    features: Iterable[jax.Array],
    first_labels: jax.Array,
    previous: int = PREVIOUS,
    radius: int = 12,
    topk: int = 5,
    temperature: float = 0.1,
) -> list[jax.Array]:
    """Labels (h, w, K) of every frame, from those of the first one.

    features: the frames' (h, w, C), read one after the other. A frame looks at the first one and at
    up to `previous` frames before it, with their soft labels (propagate_labels has the rest).
    """
    check_whole("previous", previous, 0)
    results, context = [], []
    for frame in features:
        if not results:
            results, context = [jnp.asarray(first_labels, jnp.float32)], [(frame, first_labels)]
            continue
        seen, known = (
            jnp.stack([jnp.asarray(x) for x in parts]) for parts in zip(*context, strict=True)
        )
        propagated = propagate_labels(seen, known, frame, radius, topk, temperature)
        # Or the next frame's features, whose time is taken, wait for it.
        results.append(jax.block_until_ready(propagated))
        context.append((frame, results[-1]))
        # The first frame stays; of the others the oldest goes.
        if len(context) > previous + 1:
            del context[1]
    if not results:
        raise ValueError("features: got no frame, expected at least the first one")
    return results


def nearest(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An array (H, W, …) resized to (h, w, …) by the nearest pixel, as Pillow does it."""
    axes = even_places(size)
    rows, columns = (_nearest(old, axis) for old, axis in zip(image.shape, axes, strict=False))
    return image[rows[:, None], columns]


def _nearest(old: int, axis: CellAxis) -> np.ndarray:
    """The old pixel in which the middle of each of the cells lies.

    Pillow adds the step up in float64, and its rounding decides where a centre is on an edge.
    """
    steps = np.full(axis.number, old / axis.span)
    steps[0] *= axis.first
    return np.minimum(np.add.accumulate(steps).astype(int), old - 1)
