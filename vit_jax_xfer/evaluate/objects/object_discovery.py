"""Objects found without labels: TokenCut, and how often its boxes are right (CorLoc).

Wang et al., "Self-Supervised Transformers for Unsupervised Object Discovery using Normalized Cut",
CVPR 2022, arXiv 2202.11539.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from scipy import ndimage

from vit_jax_xfer.arguments.array_checks import require_equal, require_features
from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.whole_numbers import check_number
from vit_jax_xfer.evaluate.objects.token_graph import second_eigenpair, token_graph
from vit_jax_xfer.models.cell_places import CellPlaces, places_or_even

Box = tuple[int, int, int, int]


class Discovery(NamedTuple):
    """mask: (h, w) bool, the object. box: (y0, x0, y1, x1) in cells, ends excluded.
    eigenvector: (h, w) float32, larger on the object. seed: its strongest cell (y, x).
    eigenvalue: of the cut, from 0 to 2: the smaller, the less joins the two sides."""

    mask: jax.Array
    box: Box
    eigenvector: jax.Array
    seed: tuple[int, int]
    eigenvalue: float


class CorLoc(NamedTuple):
    """rate: share of the images with annotations that are found, NaN without such an image.
    correct, skipped: (N,) bool; skipped are those without annotations, never correct."""

    rate: float
    correct: np.ndarray
    skipped: np.ndarray


def tokencut(
    features: ArrayLike, tau: float = 0.2, eps: float = 1e-5, dense: bool | None = None
) -> Discovery:
    """The object of features (h, w, C): the side of the graph's best cut with the strongest cell.

    Cells are joined by 1 where their cosine exceeds tau, else by eps. Of the second eigenvector,
    what lies beyond its mean on the strongest cell's side is foreground; the mask is the part of it
    that hangs together with that cell by its edges. Up to 256 cells the eigenvector comes from
    the dense matrix, above from products with a packed graph of (h·w)²/8 bytes; `dense` chooses.
    Where eigenvalues coincide, as of features that are all equal, the cut is any of them.
    ValueError for features that aren't finite, or a single cell.
    """
    features = given_array("features", features)
    require_features("features", features, "(h, w, C)")
    h, w, channels = features.shape
    if h * w < 2:
        raise ValueError(f"features: expected at least two cells to cut apart, got {h} × {w}")
    for name, value in (("tau", tau), ("eps", eps)):
        check_number(name, value)
    if not eps > 0:
        raise ValueError(f"eps: expected more than 0, which keeps the graph connected, got {eps}")
    tokens = np.asarray(features.astype(jnp.float32)).reshape(h * w, channels)
    value, vector = second_eigenpair(token_graph(tokens, tau, eps), dense)
    vector = vector.reshape(h, w)
    seed = np.unravel_index(np.abs(vector).argmax(), vector.shape)
    foreground = vector > vector.mean()
    if not foreground[seed]:
        vector, foreground = -vector, ~foreground
    parts = ndimage.label(foreground)[0]
    mask = parts == parts[seed]
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    eigenvector = jnp.asarray(vector, jnp.float32)
    strongest = int(seed[0]), int(seed[1])
    return Discovery(jnp.asarray(mask), box, eigenvector, strongest, value)


def box_in_pixels(
    box: Sequence[int],
    grid: tuple[int, int],
    image_size: tuple[int, int],
    places: CellPlaces | None = None,
) -> tuple[float, float, float, float]:
    """A box (y0, x0, y1, x1) in cells of a grid (h, w) → in pixels of an image (H, W).

    places: where cells lie, of patches that overlap; None = they share the image evenly.
    """
    axes = places_or_even(places, grid)
    edges = [axis.edges(side) for axis, side in zip(axes, image_size, strict=True)]
    y0, x0, y1, x1 = (float(edges[i % 2][edge]) for i, edge in enumerate(box))
    return (y0, x0, y1, x1)


def box_iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) with others (M, 4), as (y0, x0, y1, x1) → (M,).

    0 where both are without area.
    """
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.maximum(sides, 0).prod(1)
    area = np.prod(box[2:] - box[:2])
    union = area + (others[:, 2:] - others[:, :2]).prod(1) - common
    return np.divide(common, union, out=np.zeros(len(others)), where=union > 0)


def corloc(boxes: np.ndarray, ground_truth_boxes: Sequence[np.ndarray], iou: float = 0.5) -> CorLoc:
    """Which images' one box overlaps any true box by at least `iou`.

    boxes (N, 4), and for each image true boxes (M, 4), M = 0 for none, all as (y0, x0, y1, x1) in
    the same units. ValueError for boxes that aren't finite, or whose ends come before their starts.
    """
    boxes = _boxes("boxes", boxes)
    truths = [_boxes(f"ground_truth_boxes[{i}]", t) for i, t in enumerate(ground_truth_boxes)]
    require_equal("ground_truth_boxes", len(truths), len(boxes), "boxes")
    skipped = np.array([not len(truth) for truth in truths], bool)
    found = [(box_iou(b, t) >= iou).any() for b, t in zip(boxes, truths, strict=True)]
    correct = np.array(found, bool)
    evaluated = int((~skipped).sum())
    return CorLoc(float(correct.sum() / evaluated) if evaluated else np.nan, correct, skipped)


def _boxes(name: str, boxes: np.ndarray) -> np.ndarray:
    boxes = np.asarray(boxes, np.float64)
    boxes = boxes.reshape(-1, 4) if not boxes.size else boxes
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"{name}: expected (N, 4), got shape {boxes.shape}")
    # NaN fails the comparison as well.
    if not (np.isfinite(boxes).all() and (boxes[:, 2:] >= boxes[:, :2]).all()):
        raise ValueError(f"{name}: expected finite (y0, x0, y1, x1) with y0 ≤ y1 and x0 ≤ x1")
    return boxes
