"""Each field of detection's and segmentation's tasks and networks changes what is computed."""

import functools

import jax
import numpy as np
import pytest

from tests.data.object_sets import annotation, write_coco
from tests.runs import DENSE, tiny_dense
from tests.tasks.mask_folders import write_mask_folders
from vit_jax_xfer.models.dense.detector import Detector
from vit_jax_xfer.models.dense.segmentation_network import SegmentationNetwork
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.tasks.build import build_task, find_task
from vit_jax_xfer.tasks.flat_settings import flat_types
from vit_jax_xfer.tasks.placeholder_teacher import zeros_of
from vit_jax_xfer.train.inputs import finishing, open_inputs

KINDS = {"detection": Detector, "segmentation": SegmentationNetwork}
PATCHES = {"model.patch_size": 2}
TAUGHT = {"task.teacher": "x"}
UPERNET = {"model.head": "upernet", "model.channels": 4}
UNLABELED = {**TAUGHT, "unlabeled.source": "digits", "unlabeled.batch_size": 8}
UNLABELED |= {"unlabeled.pipeline": "resize(16)|normalize"}
REGIONS = {"model.head": "regions", "model.region_hidden": 8, "model.masks": False}
REGIONS |= {"model.regions": 8, "model.proposals": 8}
# field: (another value, what must be set for it to matter).
BOTH = {
    "task.teacher": ("x", {}),
    "task.teacher_family": ("dino", TAUGHT),
    "task.teacher_num_heads": (4, TAUGHT),
    "task.teacher_dtype": ("bfloat16", TAUGHT),
    "task.teacher_product_dtype": ("bfloat16", TAUGHT),
    "task.teacher_image_size": (-1, {**TAUGHT, "model.patch_size": 8}),
    "task.teacher_mean": ((0.1, 0.1, 0.1), {**TAUGHT, "task.teacher_std": (0.2, 0.2, 0.2)}),
    "task.teacher_std": ((0.1, 0.1, 0.1), {**TAUGHT, "task.teacher_mean": (0.2, 0.2, 0.2)}),
    "task.weight": (0.5, TAUGHT),
    "task.unlabeled_weight": (0.5, UNLABELED),
    "task.mode": ("distill_v", TAUGHT),
    "task.layers": ((0,), TAUGHT),
    "task.heads": ((0,), TAUGHT),
    "task.materialize": (True, TAUGHT),
    "task.loss_kernel": ("fused", TAUGHT),
    "task.match_layers": ((1, 1), TAUGHT),
    "task.match_heads": ("average", TAUGHT),
    "task.tokens": ("common", {**TAUGHT, "model.registers": 2}),
    "task.average": ("queries", TAUGHT),
    "task.share_drop_path": (True, {**TAUGHT, "model.drop_path": 0.5}),
    "task.lift_from": ("x", {"model.lift": "lift"}),
    "model.backbone": ("vit_micro_patch2", {}),
    "model.lift": ("lift", {}),
    "model.layers": ((0,), {}),
    "model.num_classes": (7, {}),
}
SECOND = {
    "segmentation": {
        **BOTH,
        "task.auxiliary_weight": (0.5, UPERNET),
        "task.window": (8, {}),
        "task.window_stride": (4, {"task.window": 8}),
        "model.head": ("segmenter", {}),
        "model.channels": (8, UPERNET),
        "model.classifier_dropout": (0.5, {}),
        "model.auxiliary": (False, UPERNET),
    },
    "detection": {
        **BOTH,
        "model.head": ("regions", {k: x for k, x in REGIONS.items() if k != "model.head"}),
        "model.pyramid": ("feature", {}),
        "model.pyramid_width": (16, {}),
        "model.masks": (True, {**REGIONS, "data.mask_size": 4}),
        "model.region_hidden": (16, REGIONS),
        "model.centre_depth": (1, {}),
        "model.anchor_scale": (3.0, REGIONS),
        "model.proposals": (12, REGIONS),
        "model.regions": (6, REGIONS),
        "model.max_detections": (3, {}),
        "model.score_threshold": (0.3, {}),
        "model.suppression": ("linear", {}),
        "model.suppression_overlap": (0.3, {}),
        "data.max_boxes": (2, {}),
        "data.mask_size": (6, {**REGIONS, "model.masks": True, "data.mask_size": 4}),
    },
}
# What an evaluation alone does; all others change the loss.
EVALUATED = ("task.window", "task.window_stride", "model.max_detections", "model.score_threshold")
EVALUATED += ("model.suppression", "model.suppression_overlap")
FIELDS = [(name, field) for name in DENSE for field in SECOND[name]]
USUAL = {"model__pyramid_width": 8, "data__max_boxes": 4, "model__max_detections": 6}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for split in ("train", "val"):
        boxes = [annotation(1, (4, 6, 30, 30)), annotation(2, (30, 10, 58, 36), 3)]
        write_coco(root / "coco", boxes, 2, f"instances_{split}2017")
    return {"detection": f"coco:{root / 'coco'}", "segmentation": write_mask_folders(root, 2, 2)}


@pytest.fixture(scope="module")
def computed(sources):
    """What a run of a config computes, as text: the program of a loss or of an evaluation."""

    def load(field, path, num_heads=0, family=""):
        loaded.append((num_heads, family))
        model = create_model("vit_micro_patch4", width=16, depth=2, num_heads=2, image_size=16)
        return model, zeros_of(model)

    loaded = []

    @functools.cache
    def program(name, evaluates, given):
        fields = {field.replace(".", "__"): value for field, value in given}
        usual = USUAL if name == "detection" else {}
        pipeline = {"data__pipeline": "resize_pad(16)|normalize"}
        config = tiny_dense(name, sources[name], **{**usual, **pipeline, **fields})
        loaded.clear()
        inputs = open_inputs(config)
        try:
            task = build_task(config, inputs.image_shape(), inputs.num_classes, load)
        except ValueError as error:
            return str(error)
        variables = jax.eval_shape(task.init, jax.random.key(0))

        def loss(variables, frozen, batch, key):
            return task.loss(variables, frozen, finishing(config)(batch), key)

        if evaluates:
            with inputs.eval_stream() as batches:
                rows = {**next(batches), "index": np.arange(8)}
            rows["image"] = rows["image"].astype(np.float32)
            found = jax.make_jaxpr(task.evaluate)(variables, task.frozen, rows)
        else:
            key = jax.random.key(0)
            found = jax.make_jaxpr(loss)(variables, task.frozen, inputs.batch_shapes(), key)
        constants = [np.asarray(x).tolist() for x in found.consts]  # whose text has shapes alone
        return str((found, constants, loaded, task.settings.unlabeled_weight))

    return lambda name, evaluates, given: program(name, evaluates, tuple(sorted(given.items())))


@pytest.mark.parametrize(("name", "field"), FIELDS)
def test_a_field_changes_what_is_computed(name, field, computed):
    value, given = SECOND[name][field]
    pair = (computed(name, field in EVALUATED, one) for one in (given, {**given, field: value}))
    before, after = pair
    assert before != after


@pytest.mark.parametrize("name", DENSE)
def test_every_field_has_a_second_value(name):
    own = KINDS[name].own_keywords().keys() - {"class_names"}
    fields = {f"model.{field}" for field in own}
    fields |= {f"task.{field}" for field in flat_types(find_task(name).settings_type)}
    assert fields <= set(SECOND[name])
