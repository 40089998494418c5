"""The light head: which cell finds which object, its losses, and what it finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.dense.centre_head import CentreCells, CentreHead
from vit_jax_xfer.models.dense.detections import Choice, truth_of

STRIDES = (4, 8)
LEVELS = [jnp.zeros((2, 8, 8, 8)), jnp.zeros((2, 4, 4, 8))]
# A large object, a small one on it, one smaller than a cell, and padding.
BOXES = np.array([[0, 0, 32, 32], [9, 9, 19, 15], [25.6, 2.6, 26.2, 3.2], [0, 0, 0, 0]], np.float32)


def numpys(boxes):
    """The object of each cell, -1 = none, by loops."""
    found = []
    for i, (side, stride) in enumerate(((8, 4), (4, 8))):
        for row in range(side):
            for column in range(side):
                fits = []
                for j, (left, top, right, bottom) in enumerate(boxes):
                    coarse = max(right - left, bottom - top) >= 8 * 4
                    if coarse != (i == 1):
                        continue
                    middle = np.array([(left + right) / 2, (top + bottom) / 2])
                    x, y = (column + 0.5) * stride, (row + 0.5) * stride
                    own = (middle // stride == [column, row]).all()
                    near = (np.abs(middle - [x, y]) <= 1.5 * stride).all()
                    inside = left < x < right and top < y < bottom
                    if own or (near and inside):
                        fits.append((not own, (right - left) * (bottom - top), j))
                found.append(min(fits)[2] if fits else -1)
    return np.array(found)


def test_each_object_has_the_cells_near_its_middle_on_the_level_of_its_size():
    cells = CentreCells(LEVELS, STRIDES)
    objects, positive = jax.jit(cells.objects)(BOXES, np.array([True, True, True, False]))
    wanted = numpys(BOXES[:3])
    np.testing.assert_array_equal(np.where(positive, objects, -1), wanted)
    assert set(wanted.tolist()) == {-1, 0, 1, 2}  # the one smaller than a cell too
    _, none = cells.objects(np.zeros((0, 4)), np.zeros(0, bool))
    assert not none.any()


@pytest.fixture(scope="module")
def run():
    """The head on drawn levels: its losses and outputs."""
    head = CentreHead(3, STRIDES, width=8, depth=1, choice=Choice(most=5, score=0.001))
    rng = np.random.default_rng(0)
    levels = [rng.normal(size=x.shape).astype(np.float32) for x in LEVELS]
    targets = {
        "boxes": np.stack([BOXES, 0 * BOXES]),
        "box_labels": np.array([[2, 0, 1, -1], [-1] * 4]),
    }
    params = jax.jit(lambda x: head.init(jax.random.key(0), x, method="make_parameters"))(levels)
    params = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), params)

    @jax.jit
    def everything(params, levels):
        truth = truth_of(targets, (32, 32))
        losses = head.apply(params, levels, truth, jax.random.key(0), method="losses")
        found = head.apply(params, levels, truth.content, method="detect")
        return losses, found, head.apply(params, levels)

    return targets, everything(params, levels)


def test_losses_are_numpys(run):
    targets, (losses, _, (logits, distances)) = run
    logits, distances = (np.asarray(x, np.float64) for x in (logits, distances))
    places = [
        ((c + 0.5) * s, (r + 0.5) * s, s)
        for n, s in ((8, 4), (4, 8))
        for r in range(n)
        for c in range(n)
    ]
    objects = numpys(BOXES[:3])
    target, apart = np.zeros_like(logits), 0.0
    for i in np.flatnonzero(objects >= 0):
        x, y, stride = places[i]
        left, top, right, bottom = np.exp(distances[0, i]) * stride
        box = np.array([x - left, y - top, x + right, y + bottom])
        true = BOXES[objects[i]].astype(np.float64)
        sides = np.minimum(box[2:], true[2:]) - np.maximum(box[:2], true[:2])
        common = np.prod(np.maximum(sides, 0))
        union = np.prod(box[2:] - box[:2]) + np.prod(true[2:] - true[:2]) - common
        hull = np.prod(np.maximum(box[2:], true[2:]) - np.minimum(box[:2], true[:2]))
        apart += 1 - (common / union - (hull - union) / hull)
        target[0, i, targets["box_labels"][0, objects[i]]] = common / union
    number = (objects >= 0).sum()
    entropy = np.logaddexp(0, logits) - logits * target
    wrong = (np.abs(1 / (1 + np.exp(-logits)) - target) ** 2 * entropy).sum()
    assert float(losses["classes"].mean()) == pytest.approx(wrong / number, rel=1e-4)
    assert float(losses["boxes"].mean()) == pytest.approx(2 * apart / number, rel=1e-4)


def test_detections_are_inside_the_image_and_come_by_falling_score(run):
    _, (_, found, _) = run
    assert found.masks is None
    assert found.valid.any()
    assert (np.diff(found.scores) <= 0).all()
    boxes = np.asarray(found.boxes[found.valid])
    assert boxes.min() >= 0
    assert boxes.max() <= 32
