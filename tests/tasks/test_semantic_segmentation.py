"""Segmentation as a task: its losses, a teacher beside them, mIoU on any mesh."""

import dataclasses
import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import one_device_mesh, rows, save_teacher, tiny_dense
from tests.tasks.mask_folders import SIDE, write_mask_folders
from vit_jax_xfer.models.lifting.feature_source import FeatureSource
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.semantic_segmentation import pixel_loss
from vit_jax_xfer.train.evaluation import Evaluator, evaluate_sets
from vit_jax_xfer.train.inputs import open_inputs
from vit_jax_xfer.train.loop import run
from vit_jax_xfer.train.run_checks import check_task
from vit_jax_xfer.train.sharding import make_mesh

SHAPE = (SIDE, SIDE, 3)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_mask_folders(tmp_path_factory.mktemp("masks"))


@pytest.fixture(scope="module")
def built(source):
    """(config, task) of some fields; a teacher is drawn where one is named."""

    def load(field, path, *about):
        model = create_model("vit_micro_patch4", width=16, depth=2, num_heads=2, image_size=16)
        return model, drawn(model.init_variables, 5)

    @functools.cache
    def build(**fields):
        config = tiny_dense("segmentation", source, **fields)
        return config, build_task(config, SHAPE, 3, load)

    return build


def drawn(init, seed=0):
    """Variables far from uniform maps, of which no program is compiled."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(init, jax.random.key(0))
    return jax.tree.map(
        lambda x: (
            np.abs(0.3 * rng.standard_normal(x.shape)).astype(x.dtype)
            if x.ndim == 1  # norms' scales, variances
            else (0.3 * rng.standard_normal(x.shape)).astype(x.dtype)
        ),
        shapes,
    )


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, (4, SIDE, SIDE)).astype(np.uint8)
    labels[:, :5], labels[3] = 255, 255
    images = rng.normal(size=(4, *SHAPE)).astype(np.float32)
    return {"image": images, "label_map": labels, "unlabeled": images[:2] + 1}


def test_pixels_without_a_class_count_for_nothing(batch):
    logits = np.random.default_rng(0).normal(size=(4, SIDE, SIDE, 3))
    labels = batch["label_map"]
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    known = labels != 255
    picked = np.take_along_axis(log_probs, np.where(known, labels, 0)[..., None], -1)[..., 0]
    found = pixel_loss(jnp.asarray(logits, jnp.float32), labels).mean()
    assert float(found) == pytest.approx(-picked[known].mean(), rel=1e-5)
    assert float(pixel_loss(jnp.asarray(logits)[3:], labels[3:]).mean()) == 0


def test_the_loss_is_the_heads_plus_the_teachers(built, batch):
    """λ times the attention loss of labelled and unlabelled images, by their weights."""
    config, task = built(task__teacher="x", task__weight=2.0, task__unlabeled_weight=0.5)
    variables = drawn(task.init)
    loss, aux = jax.jit(task.loss)(variables, task.frozen, batch, jax.random.key(1))
    found = {name: float(x) for name, x in aux.metrics.items()}
    own = task.model.encoder, task.model.encoder_variables(variables)
    each = [
        float(vjx.transfer_forward(*own, task.teacher, task.frozen, images)[1])
        for images in (batch["image"], batch["unlabeled"])
    ]
    assert found["teacher_loss"] == pytest.approx((4 * each[0] + 0.5 * 2 * each[1]) / 5, rel=1e-5)
    assert float(loss) == pytest.approx(found["pixel_loss"] + 2 * found["teacher_loss"], rel=1e-6)
    assert not np.allclose(aux.updates["batch_stats"]["pixel_head"]["norm"]["mean"], 0)
    logits, _ = task.model.apply(variables, batch["image"], True, mutable=["batch_stats"])
    wanted = pixel_loss(logits, batch["label_map"]).mean()
    assert found["pixel_loss"] == pytest.approx(float(wanted))


@pytest.mark.parametrize("head", ["upernet", "setr_pup"])
def test_several_layers_maps_come_from_the_taught_pass(built, batch, head):
    fields = {"model__head": head, "model__channels": 4, "model__scan": True}
    _, task = built(task__teacher="x", task__mode="copy", **fields)
    _, alone = built(**fields)
    variables = drawn(task.init)
    whole = {**batch, "mask": np.ones(4, bool)}
    taught, plain = (
        jax.jit(one.evaluate)(variables, one.frozen, whole)["loss"] for one in (task, alone)
    )
    assert float(taught) != float(plain)
    # With its own attention in place of the teacher's it is the plain network again.
    itself = dataclasses.replace(task, teacher=task.model.encoder)
    own = task.model.encoder_variables(variables)
    again = jax.jit(itself.evaluate)(variables, own, whole)["loss"]
    assert float(again) == pytest.approx(float(plain), rel=1e-4)


@pytest.mark.parametrize("mode", ["distill", "copy"])
def test_scanned_networks_go_in_step_to_the_same_maps(built, batch, mode):
    _, plain = built(task__teacher="x", task__mode=mode)
    _, scanned = built(task__teacher="x", task__mode=mode, model__scan=True)
    assert scanned.teacher.scan and scanned.model.encoder.scan
    variables = drawn(plain.init)
    inside = stack_blocks(plain.model.encoder_variables(variables))
    stacked = {**variables, "params": {**variables["params"], "encoder": inside["params"]}}
    whole = {**batch, "mask": np.ones(4, bool)}
    wanted = jax.jit(plain.evaluate)(variables, plain.frozen, whole)
    found = jax.jit(scanned.evaluate)(stacked, scanned.frozen, whole)
    for name in wanted.keys() - {"confusion"}:
        assert float(found[name]) == pytest.approx(float(wanted[name]), rel=1e-4), name


def test_miou_is_that_of_all_pixels_on_any_mesh(built):
    config, task = built()
    variables = drawn(task.init)
    inputs = open_inputs(config)
    check_task(task, inputs, config)
    found = evaluate_sets(Evaluator(task, make_mesh(8, 1, 1)), variables, {}, inputs)
    source, confusion = inputs.eval, np.zeros((3, 3), int)
    for i in range(len(source)):
        example = source[i]
        image = (example["image"] / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        labels = example["label_map"]
        logits = np.asarray(task.model.apply(variables, image[None].astype(np.float32)))[0]
        np.add.at(confusion, (labels[labels < 3], logits.argmax(-1)[labels < 3]), 1)
    right = np.diagonal(confusion)
    iou = right / (confusion.sum(0) + confusion.sum(1) - right)
    assert found["miou"] == pytest.approx(np.nanmean(iou))
    assert found["pixel_accuracy"] == pytest.approx(right.sum() / confusion.sum())
    with config.unlocked():
        one = open_inputs(tiny_dense("segmentation", config.data.source, eval__batch_size=2))
    again = evaluate_sets(Evaluator(task, one_device_mesh()), variables, {}, one)
    assert again == pytest.approx(found, rel=1e-5)


def test_windows_slide_over_larger_images(built, batch):
    _, whole = built()
    _, task = built(task__window=8, task__window_stride=4)
    variables = drawn(whole.init)
    content, labels = np.full((4, 2), SIDE, np.float32), np.array(batch["label_map"])
    content[2] = 10, 12  # of this one the rest is border, and windows end before it
    labels[2, 10:], labels[2, :, 12:] = 255, 255
    batch = {**batch, "mask": np.ones(4, bool), "content": content, "label_map": labels}
    loss = jax.jit(task.evaluate)(variables, {}, batch)["loss"]
    total, count = np.zeros((4, SIDE, SIDE, 3)), np.zeros((4, SIDE, SIDE, 1))
    for i in range(4):
        for y in (0, 2) if i == 2 else (0, 4, 8):
            for x in (0, 4) if i == 2 else (0, 4, 8):
                crop = batch["image"][i : i + 1, y : y + 8, x : x + 8]
                total[i, y : y + 8, x : x + 8] += task.model.apply(variables, crop)[0]
                count[i, y : y + 8, x : x + 8] += 1
    logits = jnp.asarray(total / np.maximum(count, 1), jnp.float32)
    each = [pixel_loss(logits[i : i + 1], batch["label_map"][i : i + 1]).mean() for i in range(4)]
    assert float(loss) == pytest.approx(float(sum(each)), rel=1e-5)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"checkpoint__best_metric": "top1"}, "'top1' is none of .* loss, miou, pixel_accuracy"),
        ({"eval__logits": "present"}, "eval.logits: 'present' is for classes of whole images"),
        ({"task__window": 8, "task__window_stride": 9}, "task.window_stride: got 9"),
        ({"task__window": 8, "task__teacher": "x"}, "task.window: got 8"),
        ({"model__backbone": "filter_vit_micro", "model__width": None, "model__depth": None,
          "model__num_heads": None, "task__teacher": "x"}, "filter_vit_micro is no vision"),
        ({"task__mode": "copy", "task__teacher": "x", "unlabeled__source": "digits",
          "unlabeled__batch_size": 8}, "unlabeled.source: .* copies"),
        ({"unlabeled__source": "digits", "unlabeled__batch_size": 8}, "only a task with a teacher"),
        ({"mix__mixup": 0.5}, "mix: segmentation learns from no labels"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(built, fields, words):
    from vit_jax_xfer.train.mixing import mixing_of

    with pytest.raises(ValueError, match=words):
        config, task = built(**fields)
        check_task(task, open_inputs(config), config)
        mixing_of(config, task)


def test_a_run_with_a_teacher_to_its_end(source, tmp_path):
    fields = {"unlabeled__source": source, "unlabeled__batch_size": 8}
    fields |= {"task__teacher": save_teacher(tmp_path / "teacher"), "model__patch_size": 2}
    fields |= {"model__head": "upernet", "model__channels": 4}
    fields |= {"explain__every": 3, "explain__images": 2}
    result = run(tiny_dense("segmentation", source, **fields), tmp_path / "run")
    assert result["finished"] and result["class_names"] == ["1", "2", "3"]
    assert {"loss", "miou", "pixel_accuracy", "teacher_loss"} == set(result["metrics"])
    first = next(values for _, kind, values in rows(tmp_path / "run") if kind == "train")
    assert {"pixel_loss", "auxiliary_loss", "teacher_loss", "pixel_accuracy"} <= set(first)
    pictures = sorted(one.name for one in (tmp_path / "run" / "explain").iterdir())
    assert pictures == ["0.png", "3.png"]
    model, variables = vjx.load_pretrained(tmp_path / "run" / "model")
    assert model.class_names == ("1", "2", "3") and model.head == "upernet"
    assert model.apply(variables, jnp.zeros((1, *SHAPE))).shape == (1, SIDE, SIDE, 3)


def test_a_trained_lift_is_what_the_networks_own_starts_from(source):
    """And the encoder from its own weights, where there are such; what does not fit is named."""
    lifts = {patch: create_model("lift", patch_size=patch, width=16) for patch in (4, 8)}
    lifts[0] = create_model("filter_vit_micro")  # which is none, and has no patches
    trained = {patch: drawn(model.init_variables, patch) for patch, model in lifts.items()}

    def load(field, path, *about):
        assert field == "task.lift_from"
        return lifts[int(path)], trained[int(path)]

    def build(path, **fields):
        config = tiny_dense("segmentation", source, model__width=16, **fields)
        config.task.lift_from = path
        return build_task(config, SHAPE, 3, load)

    task = build("4", model__lift="lift")
    found = task.initial["params"]["lift"]
    assert jax.tree.all(jax.tree.map(np.array_equal, found, trained[4]["params"]))
    depth = task.model.depth
    for facet, layer in (("normed", depth - 1), ("key", depth - 1), ("normed", 0)):
        lifts[5] = lifts[4].clone(source=FeatureSource("0", "runs/b", facet, layer))
        trained[5] = trained[4]
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            build("5", model__lift="lift")
        said = [str(one.message) for one in told if "lift_from" in str(one.message)]
        same = (facet, layer) == ("normed", depth - 1)
        assert len(said) == (not same), said
        assert same or f"was trained on {facet} of block {layer}, and is given normed" in said[0]
    started = jax.eval_shape(task.init, jax.random.key(0))["params"]["lift"]
    assert jax.tree.structure(started) == jax.tree.structure(found)
    for path, fields, words in (
        ("4", {}, "task.lift_from: the network has no lift; set model.lift"),
        ("8", {"model__lift": "lift"}, "task.lift_from: 8: it doubles features of 8-pixel patches"),
        ("4", {"model__lift": "convex_lift"}, "task.lift_from: 4: the weights of a LiFT; a Convex"),
        ("0", {"model__lift": "lift"}, "task.lift_from: 0: the weights of a FilterViT"),
    ):
        with pytest.raises(ValueError, match=words):
            build(path, **fields)
