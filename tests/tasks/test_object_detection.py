"""Detection as a task: its losses beside a teacher, AP on any mesh and in photographs' pixels."""

import functools

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.data.object_sets import annotation, write_coco
from tests.runs import one_device_mesh, rows, save_teacher, tiny_dense
from tests.tasks.test_semantic_segmentation import drawn
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.object_detection import AveragePrecision
from vit_jax_xfer.train.evaluation import Evaluator, evaluate_sets
from vit_jax_xfer.train.inputs import open_inputs
from vit_jax_xfer.train.loop import run
from vit_jax_xfer.train.run_checks import check_task
from vit_jax_xfer.train.sharding import make_mesh

pytest.importorskip("pycocotools")
TINY = {
    "data__pipeline": "resize_pad(16)|flip|normalize",
    "data__max_boxes": 4,
    "model__pyramid_width": 8,
    "model__max_detections": 6,
    "model__score_threshold": 0.0,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """coco:ROOT of eight and five photographs of 40×60 pixels, two objects on most of them."""
    root = tmp_path_factory.mktemp("coco")
    for split, images in (("train", 8), ("val", 5)):
        found = []
        for i in range(2, images + 1):  # the first has none
            found += [annotation(i, (4 + i, 6, 30 + i, 30)), annotation(i, (30, 10, 58, 36), 3)]
        write_coco(root, found, images, f"instances_{split}2017")
    return f"coco:{root}"


@pytest.fixture(scope="module")
def built(source):
    """(config, task) of some fields; a teacher is drawn where one is named."""

    def load(field, path, *about):
        model = create_model("vit_micro_patch4", width=16, depth=2, num_heads=2, image_size=16)
        return model, drawn(model.init_variables, 5)

    @functools.cache
    def build(**fields):
        config = tiny_dense("detection", source, **{**TINY, **fields})
        return config, build_task(config, (16, 16, 3), 2, load)

    return build


def test_the_loss_is_the_heads_plus_the_teachers(built):
    config, task = built(task__teacher="x", task__weight=2.0)
    with open_inputs(config).train_stream(0) as stream:
        batch = dict(next(stream))
    batch["image"] = (batch["image"] / 64 - 2).astype(np.float32)
    variables, key = drawn(task.init), jax.random.key(1)
    loss, aux = jax.jit(task.loss)(variables, task.frozen, batch, key)
    found = {name: float(x) for name, x in aux.metrics.items()}
    own = task.model.encoder, task.model.encoder_variables(variables)
    _, wanted = vjx.transfer_forward(*own, task.teacher, task.frozen, batch["image"])
    assert found["teacher_loss"] == pytest.approx(float(wanted), rel=1e-5)
    losses = task.model.apply(variables, batch["image"], batch, key, method="losses")
    for name, value in losses.items():  # nothing is drawn for the centre head
        assert found[f"{name}_loss"] == pytest.approx(float(value), rel=1e-5)
    total = sum(map(float, losses.values())) + 2 * found["teacher_loss"]
    assert float(loss) == pytest.approx(total, rel=1e-5)


def test_ap_is_the_same_on_any_mesh(built):
    config, task = built()
    variables = drawn(task.init)
    inputs = open_inputs(config)
    check_task(task, inputs, config)
    found = evaluate_sets(Evaluator(task, make_mesh(8, 1, 1)), variables, {}, inputs)
    assert set(found) <= set(task.metrics) and found["AR100"] > 0
    other = open_inputs(tiny_dense("detection", config.data.source, **TINY, eval__batch_size=2))
    again = evaluate_sets(Evaluator(task, one_device_mesh()), variables, {}, other)
    assert again == pytest.approx(found, rel=1e-5, nan_ok=True)


def test_true_boxes_have_full_precision_whatever_size_they_were_seen_at(built):
    """Detections at the prepared images' size against the source's objects, by the set's names."""
    inputs = open_inputs(built()[0])
    chosen = inputs.eval_sets["eval"]
    source, turned = chosen.source, np.array([1, 0], np.int32)
    match = type(chosen.match)(turned, (), False)
    precision = AveragePrecision(source, match, 2)
    for index in reversed(range(len(source))):  # in any order
        objects = source.target(index)
        boxes, valid = np.zeros((1, 3, 4)), np.zeros((1, 3), bool)
        boxes[0, : len(objects)] = objects.boxes * 16 / 60
        valid[0, : len(objects)] = True
        classes = np.full((1, 3), -1)
        classes[0, : len(objects)] = turned[objects.labels]
        content = np.array([[40 * 16 / 60, 16]])
        row = {"boxes": boxes, "scores": np.ones((1, 3)), "classes": classes, "valid": valid}
        row |= {"content": content, "original": np.array([[40, 60]])}
        precision.add({**row, "index": np.array([index])})
    found = precision.figures()
    assert found["AP"] == pytest.approx(1) and found["voc_AP50"] == pytest.approx(1)


def test_what_does_not_fit_is_named(built):
    for fields, words in (
        ({"checkpoint__best_metric": "miou"}, "'miou' is none of .*AP"),
        ({"checkpoint__best_metric": "mask_AP"}, "'mask_AP' is none of"),  # it has no masks
        ({"eval__split": "val[:1]"}, "eval.source: .* has no objects"),
        ({"eval__pipeline": "resize(16)|center_crop(16)|normalize"}, "resize_pad"),
    ):
        with pytest.raises(ValueError, match=words):
            config, task = built(**fields)
            inputs = open_inputs(config)
            check_task(task, inputs, config)
            with inputs.eval_stream() as batches:
                next(batches)


@pytest.mark.parametrize("form", ["coco128", "coco128_regions"])
def test_a_run_to_its_end(source, tmp_path, form):
    fields, taught = dict(TINY), form == "coco128"
    if taught:
        fields |= {"unlabeled__source": source, "unlabeled__batch_size": 8}
        fields |= {"task__teacher": save_teacher(tmp_path / "teacher"), "model__patch_size": 2}
    config = tiny_dense("detection", source, form, **fields)
    if not taught:
        config.data.mask_size, config.model.masks, config.model.regions = 14, True, 8
        config.checkpoint.best_metric = "mask_AP50"
    result = run(config, tmp_path / "run")
    assert result["finished"] and result["class_names"] == ["ant", "cat"]
    _, _, first = rows(tmp_path / "run")[0]
    names = {"classes_loss", "boxes_loss", "teacher_loss"} if taught else {"masks_loss"}
    assert names <= set(first)
    # There are no objects of a medium size, and so no figure of those.
    assert {"AP", "APs"} <= set(result["metrics"]) and "APm" not in result["metrics"]
    model, variables = vjx.load_pretrained(tmp_path / "run" / "model")
    assert model.class_names == ("ant", "cat")
    found = model.apply(variables, np.zeros((1, 16, 16, 3), np.float32), method="detect")
    assert found.boxes.shape == (1, 6, 4)
