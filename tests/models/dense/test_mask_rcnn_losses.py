"""Mask R-CNN's five losses against plain numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import vit_jax_xfer as vjx
from tests.models.dense import numpy_mask_rcnn as plain
from vit_jax_xfer.detection import anchors
from vit_jax_xfer.models.dense.box_head import Regions, box_losses
from vit_jax_xfer.models.dense.detections import truth_of
from vit_jax_xfer.models.dense.mask_head import mask_loss
from vit_jax_xfer.models.dense.region_proposals import RATIOS, proposal_losses, propose

STRIDES = (4, 8, 16, 32, 64)
GRIDS = ((8, 8), (4, 4), (2, 2), (1, 1), (1, 1))
COUNTS = [3 * h * w for h, w in GRIDS]
SCALE = 2.0
KEY = jax.random.key(5)
# Two objects in the first image and padding; in the second one, and what is no box.
BOXES = np.array(
    [
        [[2.5, 3, 21, 17.25], [12, 10, 31, 30], [0, 0, 0, 0]],
        [[1, 2, 30, 28], [np.nan, 0, 9, 9], [20, 20, 4, 4]],
    ],
    np.float32,
)
LABELS = np.array([[1, 3, -1], [0, 2, 1]])
OBJECTS = [BOXES[0, :2].astype(np.float64), BOXES[1, :1].astype(np.float64)]
CLASSES = [LABELS[0, :2], LABELS[1, :1]]


@pytest.fixture(scope="module")
def targets():
    masks = np.random.default_rng(1).random((2, 3, 56, 56)) < 0.5
    masks[:, :, :30, 10:40] = True
    return {"boxes": BOXES, "box_labels": LABELS, "box_masks": masks.astype(np.uint8)}


def grid_anchors():
    sizes = [SCALE * stride for stride in STRIDES]
    return anchors(GRIDS, STRIDES, sizes, RATIOS)


def test_each_loss_is_numpys(targets):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, sum(COUNTS)))
    deltas = rng.normal(size=(2, sum(COUNTS), 4)) * 0.5
    near = OBJECTS[0][rng.integers(0, 2, 6)] + rng.normal(size=(6, 4))
    far = np.concatenate([rng.random((8, 2)) * 14, 18 + rng.random((8, 2)) * 14], axis=1)
    regions = np.stack([np.concatenate([near, far[:2]]), far]).astype(np.float32)
    class_logits = rng.normal(size=(2, 8, 5))
    box_deltas = rng.normal(size=(2, 8, 4, 4))
    mask_logits = rng.normal(size=(2, 8, 28, 28, 4))
    found = [plain.matched(r, b) for r, b in zip(regions, OBJECTS, strict=True)]
    on = np.stack(found) >= 0
    assert 2 < on.sum() < 16

    @jax.jit
    def losses():
        truth = truth_of(targets, (32, 32))
        drawn = Regions(regions, jnp.ones((2, 8), bool), on, jnp.maximum(jnp.stack(found), 0))
        mask = mask_loss(mask_logits.reshape(16, 28, 28, 4), drawn, truth)
        weights = plain.WEIGHTS.tolist()
        counted = {
            **proposal_losses(KEY, logits, deltas, jnp.concatenate(grid_anchors()), truth),
            **box_losses(class_logits, box_deltas, drawn, truth, weights),
            "masks": mask,
        }
        return {name: loss.mean() for name, loss in counted.items()}

    images = list(zip(OBJECTS, CLASSES, targets["box_masks"], strict=True))
    grid = plain.anchors_of(GRIDS, STRIDES, SCALE)
    wanted = plain.proposal_losses(logits, deltas, grid, OBJECTS)
    wanted |= plain.box_losses(class_logits, box_deltas, regions, [x[:2] for x in images])
    wanted["masks"] = plain.mask_loss(mask_logits, regions, images)
    for name, loss in losses().items():
        assert float(loss) == pytest.approx(wanted[name], rel=1e-4), name


def test_proposals_are_numpys_and_those_of_small_levels_are_not_lost():
    rng = np.random.default_rng(2)
    logits = [rng.normal(size=(2, n)).astype(np.float32) for n in COUNTS]
    logits[-1] += 5  # the coarsest level has fewer anchors than are asked for
    deltas = [(0.3 * rng.normal(size=(2, n, 4))).astype(np.float32) for n in COUNTS]
    content = np.array([[32, 32], [20, 28]], np.float32)
    boxes, there = jax.jit(propose, static_argnums=(4, 5))(
        logits, deltas, grid_anchors(), content, 30, 40
    )
    grid = plain.anchors_of(GRIDS, STRIDES, SCALE)
    for i, size in enumerate(content):
        flat = (np.concatenate([x[i] for x in xs]) for xs in (logits, deltas))
        wanted = plain.proposals_of(*flat, grid, COUNTS, size, 30, 40)
        assert there[i].sum() == len(wanted)
        np.testing.assert_allclose(boxes[i][there[i]], wanted, rtol=1e-4, atol=1e-3)


@pytest.fixture(scope="module")
def network():
    """A small Mask R-CNN with large weights, so that boxes and classes differ; its losses."""
    fields = {"width": 16, "depth": 1, "num_heads": 2, "image_size": 32}
    model = vjx.create_model(
        "mask_rcnn",
        backbone="vit_micro_patch8",
        num_classes=4,
        pyramid_width=8,
        region_hidden=16,
        anchor_scale=SCALE,
        proposals=60,
        regions=80,
        **fields,
    )
    variables = jax.jit(model.init_variables)(jax.random.key(0))

    def larger(path, leaf):
        name = jax.tree_util.keystr(path)
        wide = "predictor" in name or "objectness" in name or "'deltas'" in name
        return leaf * 20 if wide else leaf

    variables = jax.tree_util.tree_map_with_path(larger, variables)
    images = np.random.default_rng(3).normal(size=(2, 32, 32, 3)).astype(np.float32)

    @jax.jit
    def losses(variables, targets, key=KEY):
        return model.apply(variables, images, targets, key, method="losses")

    return model, variables, images, losses


def test_the_whole_network_has_numpys_losses(network, targets):
    model, variables, images, losses = network

    def inner(self, images):
        levels = self._levels(self.encode(images))
        return levels, self.inner.proposal_head(levels)

    levels, (logits, deltas) = jax.jit(lambda v, x: model.apply(v, x, method=inner))(
        variables, images
    )
    logits, deltas = (np.concatenate(x, axis=1).astype(np.float64) for x in (logits, deltas))
    grid = plain.anchors_of(GRIDS, STRIDES, SCALE)
    wanted = plain.proposal_losses(logits, deltas, grid, OBJECTS)
    regions, found, masks = [], [], []
    for i, boxes in enumerate(OBJECTS):
        proposals = plain.proposals_of(logits[i], deltas[i], grid, COUNTS, (32, 32), 120, 60)
        regions.append(np.concatenate([proposals, boxes]))
        on = plain.matched(regions[i], boxes) >= 0
        assert on.sum() <= 15, "else objects are drawn"
        pools = {
            side: np.array(
                [plain.pooled([x[i] for x in levels[:4]], STRIDES, box, side) for box in chosen]
            ).reshape(-1, side, side, 8)
            for side, chosen in ((7, regions[i]), (14, regions[i][on]))
        }
        found.append(model.apply(variables, pools[7], method=heads))
        masks.append(model.apply(variables, pools[14], method=mask_logits))
    pairs = list(zip(OBJECTS, CLASSES, strict=True))
    class_logits, box_deltas = ([np.asarray(x[k], np.float64) for x in found] for k in range(2))
    wanted |= plain.box_losses(class_logits, box_deltas, regions, pairs)
    whole = [(*pair, m) for pair, m in zip(pairs, targets["box_masks"], strict=True)]
    of_objects = [
        region[plain.matched(region, boxes) >= 0]
        for region, boxes in zip(regions, OBJECTS, strict=True)
    ]
    wanted["masks"] = plain.mask_loss([np.asarray(x) for x in masks], of_objects, whole)
    for name, loss in losses(variables, targets).items():
        assert float(loss) == pytest.approx(wanted[name], rel=2e-4), name


def heads(self, pooled):
    return self.inner.box_predictor[0](self.inner.box_head[0](jnp.asarray(pooled, jnp.float32)))


def mask_logits(self, pooled):
    return self.inner.mask_predictor(self.inner.mask_head(jnp.asarray(pooled, jnp.float32)))


def test_images_without_objects_wrong_labels_and_other_keys(network, targets):
    _, variables, _, losses = network
    none = {**targets, "box_labels": np.full_like(LABELS, -1)}
    found = losses(variables, none)
    for name in ("proposal_boxes", "boxes", "masks"):
        assert float(found[name]) == 0, name
    assert 0 < float(found["classes"]) < np.inf
    assert 0 < float(found["objectness"]) < np.inf
    beyond = {**targets, "box_labels": np.where(LABELS == 3, 4, LABELS)}
    assert all(np.isnan(x) for x in losses(variables, beyond).values())
    bad = {**targets, "box_labels": np.where(LABELS < 0, 3, LABELS)}  # of a box without area
    for name, loss in losses(variables, targets).items():
        assert float(losses(variables, bad)[name]) == float(loss), name


def test_devices_that_share_a_batch_have_its_losses(network, targets):
    model, variables, images, losses = network
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    rows, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))
    shared = jax.device_put((images, targets), rows)

    @jax.jit
    def on_both(variables, images, targets):
        return model.apply(variables, images, targets, KEY, method="losses")

    found = on_both(jax.device_put(variables, whole), *shared)
    for name, loss in losses(variables, targets).items():
        assert float(found[name]) == pytest.approx(float(loss), rel=1e-5), name
