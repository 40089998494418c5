"""Detectors as networks: fields, parameters, any backbone, saving, and learning."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.multiply_adds import multiply_adds
from vit_jax_xfer.pretrained.description import describe, from_description
from vit_jax_xfer.pretrained.warm_start import start_from

VIT = {"backbone": "vit_micro_patch8", "width": 16, "depth": 1, "num_heads": 2, "image_size": 32}
SMALL = {"num_classes": 3, "pyramid_width": 8, "max_detections": 5}
REGIONS = {**SMALL, "region_hidden": 16, "proposals": 20, "regions": 16}
FILTER = {"backbone": "filter_vit_micro", "image_size": 64}


def shapes_of(model):
    return jax.eval_shape(model.init_variables, jax.random.key(0))


def test_fields_are_its_own_or_the_backbones():
    model = vjx.create_model("mask_rcnn", **VIT, **REGIONS)
    assert (model.predicts, model.kind, model.depth) == ("boxes", "Mask R-CNN", 1)
    assert (model.encoder.width, model.encoder.num_classes, model.num_classes) == (16, 0, 3)
    assert from_description(json.loads(json.dumps(describe(model)))) == model
    with pytest.raises(ValueError, match="FilterViT has no field 'patch_size'"):
        vjx.create_model("centre_detector", **FILTER, patch_size=8)
    with pytest.raises(ValueError, match="Detector has no field 'nonsense'"):
        vjx.create_model("mask_rcnn", nonsense=1)
    for field, value in (("head", "yolo"), ("pyramid", "none"), ("suppression", "fast")):
        with pytest.raises(ValueError, match=f"{field}: '{value}' is none of"):
            shapes_of(model.clone(**{field: value}))
    with pytest.raises(ValueError, match="pyramid: 'simple' is made of one map"):
        shapes_of(vjx.create_model("centre_detector", **FILTER, pyramid="simple"))
    for name, field in (("centre_detector", "region_hidden"), ("mask_rcnn", "centre_depth")):
        with pytest.raises(ValueError, match=f"{field}: the head '.*' has none; leave it out"):
            shapes_of(vjx.create_model(name, **VIT, **{field: 4}))
    with pytest.raises(ValueError, match="masks: the head 'centres' has none"):
        shapes_of(vjx.create_model("centre_detector", **VIT, masks=True))


def test_parameters_lie_beside_the_encoders_and_other_classes_start_from_them():
    model = vjx.create_model("mask_rcnn", **VIT, **REGIONS)
    shapes = shapes_of(model)
    parts = {"proposal_head", "box_head_0", "box_predictor_0", "mask_head", "mask_predictor"}
    assert set(shapes["params"]) == {"encoder", "pyramid", *parts}
    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    others = start_from(model, variables, model.clone(num_classes=7))
    assert parts - set(others["params"]) == {"box_predictor_0", "mask_predictor"}
    cascade = vjx.create_model("cascade_mask_rcnn", **VIT, **REGIONS)
    assert {"box_head_0", "mask_head", "pyramid"} < set(
        start_from(model, variables, cascade)["params"]
    )
    encoder = vjx.create_model(**{"name" if k == "backbone" else k: v for k, v in VIT.items()})
    plain = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes_of(encoder))
    assert set(start_from(encoder, plain, model)["params"]) == {"encoder"}


@pytest.mark.parametrize(
    ("name", "fields", "masks"),
    [
        ("mask_rcnn", VIT, True),
        ("mask_rcnn", {**VIT, "masks": False, "suppression": "gaussian"}, False),
        ("mask_rcnn", FILTER, True),
        ("cascade_mask_rcnn", {**VIT, "lift": "lift"}, True),
        ("centre_detector", {**VIT, "pyramid": "feature"}, False),
        ("centre_detector", {**VIT, "lift": "convex_lift"}, False),
        ("centre_detector", FILTER, False),
    ],
)
def test_any_backbone_gives_losses_and_detections(name, fields, masks):
    small = SMALL if name == "centre_detector" else REGIONS
    model = vjx.create_model(name, **{**small, **fields})
    side = model.image_size
    images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
    targets = {
        "boxes": jax.ShapeDtypeStruct((2, 4, 4), jnp.float32),
        "box_labels": jax.ShapeDtypeStruct((2, 4), jnp.int32),
        "box_masks": jax.ShapeDtypeStruct((2, 4, 56, 56), jnp.uint8),
    }
    key = jax.eval_shape(lambda: jax.random.key(0))

    def run(variables, images, targets, key):
        losses, _ = model.apply(
            variables,
            images,
            targets,
            key,
            method="losses",
            rngs={"dropout": key},
            mutable=["batch_stats"],
        )
        return losses, model.apply(variables, images, method="detect")

    losses, found = jax.eval_shape(run, shapes_of(model), images, targets, key)
    assert all(x.shape == () and x.dtype == jnp.float32 for x in losses.values())
    number = {"mask_rcnn": 5, "cascade_mask_rcnn": 9, "centre_detector": 2}[name]
    assert len(losses) == number - (name == "mask_rcnn" and not masks)
    assert found.boxes.shape == (2, 5, 4)
    assert (found.masks.shape == (2, 5, 28, 28)) if masks else found.masks is None


def test_a_mask_head_without_masks_to_learn_from_is_refused():
    model = vjx.create_model("mask_rcnn", **VIT, **REGIONS)
    targets = {"boxes": np.zeros((1, 2, 4)), "box_labels": np.zeros((1, 2), int)}

    def losses(variables):
        images = np.zeros((1, 32, 32, 3), np.float32)
        return model.apply(variables, images, targets, jax.random.key(0), method="losses")

    with pytest.raises(ValueError, match="box_masks: the batch has none.*set masks=False"):
        jax.eval_shape(losses, shapes_of(model))


def test_halves_are_the_whole_and_its_work_is_counted():
    model = vjx.create_model("centre_detector", **VIT, **SMALL)
    variables = jax.jit(model.init_variables)(jax.random.key(0))
    images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)

    @jax.jit
    def both(variables):
        maps = model.apply(variables, images, method="encode")
        whole = model.apply(variables, images, method="detect")
        return whole, model.apply(variables, maps, images, method="decode")

    whole, halves = both(variables)
    jax.tree.map(np.testing.assert_array_equal, whole, halves)
    assert multiply_adds(model) > multiply_adds(model.encoder)


def scenes(number, side=64):
    """Images with one to three bright rectangles of three colours, and their boxes."""
    rng = np.random.default_rng(0)
    images = 0.3 * rng.normal(size=(number, side, side, 3)).astype(np.float32)
    boxes, labels = np.zeros((number, 3, 4), np.float32), np.full((number, 3), -1)
    for i in range(number):
        for j in range(rng.integers(1, 4)):
            width, height = rng.integers(12, 32, 2)
            left, top = rng.integers(0, side - width), rng.integers(0, side - height)
            labels[i, j] = rng.integers(3)
            boxes[i, j] = left, top, left + width, top + height
            images[i, top : top + height, left : left + width] = 2 * np.eye(3)[labels[i, j]]
    return images, {"boxes": boxes, "box_labels": labels}


@pytest.mark.parametrize("name", ["centre_detector", "mask_rcnn"])
def test_it_learns_where_the_bright_things_are(name):
    images, targets = scenes(6)
    fields = {"backbone": "vit_micro_patch8", "image_size": 64, "num_classes": 3}
    fields |= {"pyramid_width": 16, "region_hidden": 64, "proposals": 40, "regions": 24}
    model = vjx.create_model(name, **fields, max_detections=10, masks=False)
    variables = jax.jit(model.init_variables)(jax.random.key(0))
    tx = optax.chain(optax.clip_by_global_norm(5.0), optax.adam(2e-3))
    opt = tx.init(variables)

    @jax.jit
    def step(variables, opt, key):
        def loss(variables):
            found = model.apply(variables, images, targets, key, method="losses")
            return sum(found.values())

        updates, opt = tx.update(jax.grad(loss)(variables), opt, variables)
        return optax.apply_updates(variables, updates), opt

    for i in range(200):
        variables, opt = step(variables, opt, jax.random.key(i))
    found = jax.jit(lambda v: model.apply(v, images, method="detect"))(variables)
    overlaps = np.asarray(vjx.detection.iou(targets["boxes"], found.boxes))
    same = targets["box_labels"][:, :, None] == np.asarray(found.classes)[:, None]
    sure = (np.asarray(found.scores) > 0.3)[:, None]
    hit = ((overlaps > 0.5) & same & sure).any(-1)[targets["box_labels"] >= 0]
    assert hit.mean() > 0.8
