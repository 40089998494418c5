"""How much of an explanation lies on the pixels that a FilterViT keeps."""

import numpy as np

from vit_jax_xfer.explain.cells import Cells
from vit_jax_xfer.explain.kept_tokens import StageMask
from vit_jax_xfer.explain.overlay import spread


def kept_share(relevance: np.ndarray, cells: Cells, stage: StageMask) -> float | None:
    """The share of the relevance above 0 that lies inside what a stage kept; None without any.

    relevance: (h, w), each value spread evenly over the image's pixels of its cell. What lies on
    strips that no cell of the stage covers is not inside.
    """
    size = cells.image_size
    numbers = np.arange(relevance.size).reshape(relevance.shape)
    places = spread(numbers, cells, size, fill=-1)
    counts = np.bincount(places[places >= 0], minlength=relevance.size)
    positive = np.maximum(np.asarray(relevance, np.float64), 0).reshape(-1)
    density = np.append(positive / np.maximum(counts, 1), 0.0)[places]
    total = density.sum()
    return float(density[kept_pixels(stage)].sum() / total) if total > 0 else None


def kept_area(stage: StageMask) -> float:
    """The share of the image's pixels that a stage kept: what a map without a message gives."""
    return float(kept_pixels(stage).mean())


def kept_pixels(stage: StageMask) -> np.ndarray:
    """Which pixels (H, W) of the network's image lie in kept cells, bool."""
    return spread(stage.mask, stage.cells, stage.cells.image_size, fill=False)
