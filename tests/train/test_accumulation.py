"""`optim.accumulate`: of every task the parts' step is the whole batch's, whatever is counted."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.tasks.test_semantic_segmentation import drawn
from vit_jax_xfer.features.backbone import Backbone
from vit_jax_xfer.models.dense.counted_mean import CountedMean
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.tasks.attention_transfer import AttentionTransfer, AttentionTransferSettings
from vit_jax_xfer.tasks.build import TASKS
from vit_jax_xfer.tasks.choice_transfer import ChoiceTransfer, ChoiceTransferSettings
from vit_jax_xfer.tasks.dense_task import Transfer
from vit_jax_xfer.tasks.distillation import (
    FeatureDistillation,
    FeatureDistillationSettings,
    LogitDistillation,
    LogitDistillationSettings,
)
from vit_jax_xfer.tasks.feature_upsampling import FeatureUpsampling, FeatureUpsamplingSettings
from vit_jax_xfer.tasks.masked_pretraining import MaskedPretraining, MaskedPretrainingSettings
from vit_jax_xfer.tasks.object_detection import Detection, DetectionSettings
from vit_jax_xfer.tasks.semantic_segmentation import Segmentation, SegmentationSettings
from vit_jax_xfer.tasks.supervised import Classification, ClassificationSettings
from vit_jax_xfer.tasks.task import Aux, Task
from vit_jax_xfer.train.rules import named_leaves
from vit_jax_xfer.train.state import make_train_step, new_state, step_key

SIDE, CLASSES, PARTS = 16, 3, 2
SMALL = {"width": 16, "depth": 2, "num_heads": 2, "image_size": SIDE}
DENSE = {**SMALL, "backbone": "vit_micro_patch4", "num_classes": CLASSES}
REGIONS = {"pyramid_width": 8, "region_hidden": 16, "anchor_scale": 2.0, "proposals": 30}
BOXES = np.array([[1, 2, 9, 8], [4, 5, 15, 14], [8, 1, 14, 7]], np.float32)


def vit(seed=None):
    """A small vision transformer; with a seed, it and its variables."""
    model = create_model("vit_micro_patch4", num_classes=CLASSES, **SMALL)
    return model if seed is None else (model, drawn(model.init_variables, seed))


def dense(name, **fields):
    return create_model(name, **{**DENSE, **fields})


def regions(name, **fields):
    settings = DetectionSettings(transfer=Transfer("distill"), weight=2.0)
    model = dense(name, **REGIONS, regions=40, **fields)
    return Detection(model, settings, *vit(5))


def filter_vit():
    none = {"dropout": 0.0, "head_dropout": 0.0}
    model = create_model("filter_vit_micro", num_classes=CLASSES, **none)
    return ChoiceTransfer(model, ChoiceTransferSettings(), *vit(5))


def doubling():
    backbone, variables = vit(5)
    model = create_model("lift", patch_size=4, width=16)
    return FeatureUpsampling(model, FeatureUpsamplingSettings(), Backbone(backbone), variables)


# Of each task one or more.
MADE = {
    "classification": lambda: Classification(vit(), ClassificationSettings(0.1)),
    "masked_pretraining": lambda: MaskedPretraining(
        create_model("mae_vit_micro_patch4", **SMALL), MaskedPretrainingSettings()
    ),
    "attention_transfer": lambda: AttentionTransfer(
        vit(), AttentionTransferSettings(unlabeled_weight=0.3), *vit(5)
    ),
    "logit_distillation": lambda: LogitDistillation(vit(), LogitDistillationSettings(), *vit(5)),
    "feature_distillation": lambda: FeatureDistillation(
        vit(), FeatureDistillationSettings(), *vit(5)
    ),
    "choice_transfer": filter_vit,
    "feature_upsampling": doubling,
    "segmentation": lambda: Segmentation(
        dense("segmentation"), SegmentationSettings(weight=2.0), *vit(5)
    ),
    "segmentation upernet": lambda: Segmentation(
        dense("segmentation", head="upernet", channels=8, classifier_dropout=0.0),
        SegmentationSettings(),
    ),
    "detection": lambda: Detection(
        dense("centre_detector", pyramid_width=8), DetectionSettings(weight=2.0), *vit(5)
    ),
    "detection mask_rcnn": lambda: regions("mask_rcnn"),
    "detection cascade": lambda: regions("cascade_mask_rcnn", masks=False),
}


def test_every_task_that_trains_is_here():
    ours = {name for name, task in TASKS.items() if task.__module__.startswith("vit_jax_xfer")}
    assert {name.split()[0] for name in MADE} == ours - {"ensemble"}


def batch_of(task: Task):
    """Four images, whose boxes and labelled pixels are as unequal as can be."""
    rng = np.random.default_rng(1)
    found = {"image": rng.normal(size=(4, SIDE, SIDE, 3)).astype(np.float32)}
    if task.targets == "boxes":
        labels = np.full((4, 3), -1)
        labels[0], labels[1, :1] = [0, 2, 1], [2]
        masks = (rng.random((4, 3, 56, 56)) < 0.6).astype(np.uint8)
        boxes = np.broadcast_to(BOXES, (4, 3, 4))
        return {**found, "boxes": boxes, "box_labels": labels, "box_masks": masks}
    if task.targets == "label_map":
        labels = rng.integers(0, CLASSES, (4, SIDE, SIDE)).astype(np.uint8)
        labels[1, 1:], labels[2], labels[3, :5] = 255, 255, 255
        return {**found, "label_map": labels, "unlabeled": found["image"][:2] + 1}
    found["label"] = rng.integers(0, CLASSES, 4)
    if isinstance(task, AttentionTransfer):
        found["unlabeled"] = found["image"][:2] + 1
    return found


def step_of(task, variables, accumulate):
    """A step by the gradient alone; batch norms, whose statistics are a part's, stand still."""
    moving = {name.rpartition("/")[0] for name, _ in named_leaves(variables.get("batch_stats", {}))}
    still = jax.tree.unflatten(
        jax.tree.structure(variables["params"]),
        [name.rpartition("/")[0] in moving for name, _ in named_leaves(variables["params"])],
    )
    return make_train_step(task, optax.sgd(1.0), still, ema_decay=0.0, accumulate=accumulate)


def assert_same_step(before, found, wanted):
    """Fails unless two steps, (state, metrics), from one state have the same metrics and moves."""
    assert wanted[1].keys() == found[1].keys()
    for metric, value in wanted[1].items():
        assert float(found[1][metric]) == pytest.approx(float(value), rel=2e-5), metric
    moved = functools.partial(jax.tree.map, lambda old, new: np.asarray(old) - np.asarray(new))
    moves = dict(named_leaves(moved(before.params, wanted[0].params)))
    scale = max(np.abs(x).max() for x in moves.values())
    for leaf, move in named_leaves(moved(before.params, found[0].params)):
        np.testing.assert_allclose(move, moves[leaf], atol=2e-5 * scale, err_msg=leaf)


@pytest.fixture
def same_draws(monkeypatch):
    """Each image's random numbers are the same in any batch of them."""

    def uniform(key, shape=(), *rest, **more):
        return jnp.broadcast_to(jnp.linspace(0.9, 0.1, shape[-1]) if shape else 0.5, shape)

    monkeypatch.setattr(jax.random, "uniform", uniform)


@pytest.mark.parametrize("name", MADE)
def test_two_parts_make_the_step_of_the_whole(name, same_draws):
    task = MADE[name]()
    variables, batch = drawn(task.init), batch_of(task)
    state = new_state(variables, optax.sgd(1.0), False)
    whole, parts = (
        jax.jit(step_of(task, variables, n))(state, task.frozen, batch, step_key(3))
        for n in (1, PARTS)
    )
    assert_same_step(state, parts, whole)


@dataclasses.dataclass
class Products(Task):
    """Products of the rows that the batch's mask counts; of other rows they are no numbers."""

    model: nn.Module | None = None
    frozen: dict = dataclasses.field(default_factory=dict)

    def init(self, key):
        return {"params": {"w": jnp.ones((8, 8))}}

    def loss(self, variables, frozen, batch, key):
        return self.loss_of_part(variables, frozen, batch, key, {})

    def loss_of_part(self, variables, frozen, batch, key, numbers):
        found = CountedMean.of(batch["x"] @ variables["params"]["w"], batch["counted"])
        loss = found.mean(numbers.get("rows"))
        return loss, Aux({"rows_loss": loss}, {}, {"rows": found.number})

    evaluate = check = None


def test_what_is_counted_of_the_batch_alone_runs_no_network_for_it():
    tx = optax.sgd(1.0)
    x = jax.random.normal(jax.random.key(0), (6, 8))
    batch = {"x": x, "counted": jnp.array([True, False, True, False, True, True])}
    products, moved = {}, {}
    for parts in (1, 2, 3):
        task = Products()
        step = make_train_step(task, tx, {"w": False}, ema_decay=0.0, accumulate=parts)
        state = new_state(task.init(None), tx, False)
        compiled = jax.jit(step).lower(state, {}, batch, step_key(3)).compile()
        products[parts] = compiled.as_text().count(" dot(")
        after, metrics = compiled(state, {}, batch, step_key(3))
        moved[parts] = after.params["w"]
        wanted = (x[jnp.array([0, 2, 4, 5])] @ jnp.ones((8, 8))).sum() / 4
        assert float(metrics["loss"]) == pytest.approx(float(wanted), rel=1e-5)
        assert float(metrics["rows_loss"]) == pytest.approx(float(wanted), rel=1e-5)
    assert products[1] == products[2] == products[3] > 0
    np.testing.assert_allclose(moved[2], moved[1], atol=1e-6)
    np.testing.assert_allclose(moved[3], moved[1], atol=1e-6)


def test_a_task_that_counts_and_takes_no_count_is_an_error():
    class Counting(Classification):
        def loss(self, variables, frozen, batch, key):
            loss, aux = super().loss(variables, frozen, batch, key)
            return loss, aux.replace(numbers={"pixels": jnp.float32(3)})

    task = Counting(vit(), ClassificationSettings())
    variables = drawn(task.init)
    state = new_state(variables, optax.sgd(1.0), False)
    with pytest.raises(TypeError, match="Counting gives numbers, and has no `loss_of_part`"):
        jax.eval_shape(step_of(task, variables, 2), state, {}, batch_of(task), step_key(3))


def test_a_counted_mean():
    values = jnp.arange(12.0).reshape(2, 3, 2)
    counted = jnp.array([[True, False, True], [False, False, True]])
    found = CountedMean.of(values, counted)
    assert float(found.total) == 0 + 1 + 4 + 5 + 10 + 11 and float(found.number) == 3
    assert float(found.scaled(0.5).mean()) == pytest.approx(31 / 6)
    assert float(found.mean(jnp.float32(10))) == pytest.approx(3.1)
    assert float(CountedMean.of(values, counted & False).mean()) == 0
    # A float32 sum, one by one, would stop at 2 ** 24; int32 at 2 ** 31.
    assert found.number.dtype == jnp.float32
