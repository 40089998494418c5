"""Of boxes that overlap, the best: exact and soft suppression with static shapes.

Exact suppression is a fixed point: a box is kept if no kept one before it overlaps it too much. The
loop repeats that rule for all boxes at once until nothing changes, which it does after two or three
rounds, and after one a box in the worst case.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.detection.box_overlap import as_boxes, iou, is_box
from vit_jax_xfer.detection.compiled import compiled


@compiled("max_output")
def nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    max_output: int,
    classes: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The boxes that stay, by falling score: indices (max_output,) int32, valid (max_output,) bool.

    boxes: (N, 4). scores: (N,); -inf or NaN marks a place without a box, and what is no box (NaN,
    sides swapped) never stays. threshold: IoU above which the lower one goes. classes: (N,);
    boxes of two classes never meet. Equal scores stand in their order. Places that are not valid
    have index 0.
    """
    boxes, scores, classes = _checked(boxes, scores, classes, max_output)
    order, there = _by_score(boxes, scores)
    ordered = boxes[order]
    before = jnp.arange(len(order))[:, None] < jnp.arange(len(order))
    meet = before & (iou(ordered, ordered) > threshold) & _same_class(classes, order)

    def again(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        kept, _ = state
        new = there & ~(meet & kept[:, None]).any(0)
        return new, (new != kept).any()

    kept, _ = jax.lax.while_loop(lambda state: state[1], again, (there, jnp.asarray(True)))
    place = jnp.where(kept, jnp.cumsum(kept) - 1, max_output)
    indices = jnp.zeros(max_output, jnp.int32).at[place].set(order.astype(jnp.int32), mode="drop")
    return indices, jnp.arange(max_output) < kept.sum()


@compiled("max_output", "method")
def soft_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    max_output: int,
    classes: ArrayLike | None = None,
    method: str = "linear",
    threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Soft-NMS (1704.04503): indices, scores, valid, each (max_output,), by falling new score.

    Each box that is taken lowers the scores of those that it overlaps: "linear" by 1 − IoU where
    that is above `threshold`, "gaussian" by exp(−IoU² / sigma). What has fallen to score_threshold
    is gone. Shapes, classes and what is no box as for `nms`.
    """
    boxes, scores, classes = _checked(boxes, scores, classes, max_output)
    if method not in ("linear", "gaussian"):
        raise ValueError(f"method: {method!r} is neither 'linear' nor 'gaussian'")
    left = jnp.where(is_box(boxes) & ~jnp.isnan(scores), scores, -jnp.inf)

    def take(
        i: jax.Array, state: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        left, indices, found = state
        best = left.argmax()
        score = left[best]
        overlap = iou(boxes[best][None], boxes)[0]
        if classes is not None:
            overlap = jnp.where(classes == classes[best], overlap, 0.0)
        if method == "linear":
            factor = jnp.where(overlap > threshold, 1 - overlap, 1.0)
        else:
            factor = jnp.exp(-jnp.square(overlap) / sigma)
        gone = left == -jnp.inf
        left = jnp.where(gone, left, left * factor).at[best].set(-jnp.inf)
        left = jnp.where(left > score_threshold, left, -jnp.inf)
        return left, indices.at[i].set(best.astype(jnp.int32)), found.at[i].set(score)

    start = jnp.where(left > score_threshold, left, -jnp.inf)
    empty = jnp.zeros(max_output, jnp.int32), jnp.full(max_output, -jnp.inf)
    if not len(boxes):
        return empty[0], jnp.zeros(max_output), jnp.zeros(max_output, bool)
    _, indices, found = jax.lax.fori_loop(0, max_output, take, (start, *empty))
    valid = found > -jnp.inf
    return jnp.where(valid, indices, 0), jnp.where(valid, found, 0.0), valid


def _checked(
    boxes: ArrayLike, scores: ArrayLike, classes: ArrayLike | None, max_output: int
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Float32 boxes (N, 4), scores (N,), classes (N,). ValueError, naming the argument, for others.

    Indexing beyond an array's end would take its last element.
    """
    boxes, scores = as_boxes("boxes", boxes), given_array("scores", scores)
    classes = None if classes is None else given_array("classes", classes)
    if boxes.ndim != 2:
        raise ValueError(f"boxes: expected (N, 4), got {tuple(boxes.shape)}; vmap over more")
    for name, values in (("scores", scores), ("classes", classes)):
        if values is not None and values.shape != boxes.shape[:1]:
            raise ValueError(f"{name}: got {tuple(values.shape)} for {len(boxes)} boxes; one each")
    check_whole("max_output", max_output)
    return boxes, scores.astype(jnp.float32), classes


def _by_score(boxes: jax.Array, scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The order of falling score, and which of the ordered are boxes."""
    there = is_box(boxes) & ~jnp.isnan(scores) & (scores > -jnp.inf)
    order = jnp.argsort(jnp.where(there, -scores, jnp.inf), stable=True)
    return order, there[order]


def _same_class(classes: jax.Array | None, order: jax.Array) -> jax.Array:
    if classes is None:
        return jnp.asarray(True)
    ordered = classes[order]
    return ordered[:, None] == ordered
