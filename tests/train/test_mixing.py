"""Mixing in the step: soft targets through losses, the same on any mesh, seen by the teacher."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs import one_device_mesh, tiny_config
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.tasks.build import task_settings
from vit_jax_xfer.tasks.distillation import LogitDistillation
from vit_jax_xfer.tasks.supervised import Classification
from vit_jax_xfer.train.compile import trace_step
from vit_jax_xfer.train.mixing import draw_rows, mixing_of, partners
from vit_jax_xfer.train.schedule import make_run_schedule
from vit_jax_xfer.train.sharding import make_mesh, place, to_device
from vit_jax_xfer.train.state import _MIXING, step_key

ROWS, CLASSES = 16, 5
FIELDS = {"image_size": 4, "width": 8, "depth": 1, "num_heads": 2, "num_classes": CLASSES}
FIELDS["head_init_std"] = 1.0  # so that images differ in their classes


def batch():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(ROWS, 4, 4, 3)).astype(np.float32)
    return {"image": images, "label": rng.integers(0, CLASSES, ROWS).astype(np.int32)}


def task_of(name):
    fields = {"mix__mixup": 0.8, "mix__cutmix": 1.0, "mix__mode": "element", "mix__group": 8}
    config = tiny_config("logit_distill" if name == "distillation" else "scratch", **fields)
    config.batch_size = ROWS
    model, settings = create_model("vit_micro_patch2", **FIELDS), task_settings(config.task)
    if name == "classification":
        return config, Classification(model, settings)
    teacher = model.clone(depth=2)
    frozen = jax.jit(teacher.init)(jax.random.key(7), jnp.zeros((1, 4, 4, 3)))
    return config, LogitDistillation(model, settings, teacher, jax.device_get(frozen))


@functools.cache
def step_of(name, devices):
    """(state, metrics, task) after one step of a task on so many devices."""
    config, task = task_of(name)
    mesh = make_mesh(4, 2, 1) if devices == 8 else one_device_mesh()
    rows = batch()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), rows)
    program = trace_step(task, config, make_run_schedule(config, 1.0), mesh, shapes)
    init = jax.jit(program.init, out_shardings=program.shardings)
    state = init(jax.random.key(0), program.loaded)
    before = jax.device_get(state.variables())
    frozen = place(task.frozen, program.frozen_shardings)
    after, metrics = program.compile()(state, frozen, to_device(rows, mesh), step_key(config.seed))
    return before, jax.device_get(after.params), jax.device_get(metrics), task, config


@pytest.mark.parametrize("name", ["classification", "distillation"])
def test_mixing_is_the_same_on_any_mesh(name):
    _, one, metrics, _, _ = step_of(name, 1)
    _, eight, others, _, _ = step_of(name, 8)
    assert metrics.keys() == others.keys()
    for metric, value in metrics.items():
        np.testing.assert_allclose(others[metric], value, rtol=1e-5, err_msg=metric)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=3e-5), eight, one)


def test_teacher_and_labels_are_of_the_mixed_images():
    before, _, metrics, task, config = step_of("distillation", 8)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), 0), _MIXING)
    for mixed, seen in ((mixing_of(config, task)(batch(), key), True), (batch(), False)):
        logits = jax.nn.log_softmax(task.model.apply(before, mixed["image"]))
        teacher = jax.nn.softmax(task.teacher.apply(task.frozen, mixed["image"]))
        shares = mixed["label"] if seen else jax.nn.one_hot(mixed["label"], CLASSES)
        wanted = {
            "teacher_loss": -(teacher * logits).sum(-1).mean(),
            "label_loss": -(shares * logits).sum(-1).mean(),
            "top1": (logits.argmax(-1) == shares.argmax(-1)).mean(),
        }
        close = [np.isclose(metrics[metric], x, rtol=1e-5) for metric, x in wanted.items()]
        assert all(close) if seen else not any(close[:2])


def settings_of(**fields):
    return tiny_config("scratch", **{f"mix__{name}": value for name, value in fields.items()}).mix


def drawn(number, group, size=(20, 30), **fields):
    rows = draw_rows(jax.random.key(1), settings_of(**fields), number, group, size)
    return tuple(np.asarray(each) for each in rows)


def test_what_shares_a_draw():
    both = {"mixup": 0.8, "cutmix": 1.0}
    share, cutmix, boxes = (each.reshape(4, 8, -1) for each in drawn(32, 8, **both))
    for each in (share, cutmix, boxes):
        assert (each == each[:, :1]).all() and len(np.unique(each[:, 0], axis=0)) > 1
    share, cutmix, boxes = (each.reshape(4, 8, -1) for each in drawn(32, 8, mode="pair", **both))
    for each in (share, cutmix, boxes):
        assert (each == each[:, ::-1]).all()
    assert len(np.unique(share)) == 16
    assert len(np.unique(drawn(32, 8, mode="element", **both)[0])) == 32


def test_what_is_drawn_how_often():
    both = {"mixup": 0.8, "cutmix": 1.0, "mode": "element", "probability": 0.75, "switch": 0.25}
    share, cutmix, boxes = drawn(4000, 4000, **both)
    assert abs(np.mean(share < 1) - 0.75) < 0.03
    assert abs(cutmix.mean() - 0.75 * 0.25) < 0.03
    blended = share[(share < 1) & ~cutmix]
    # Variances of Beta(0.8, 0.8) and of Beta(1, 1), which is uniform.
    assert abs(blended.mean() - 0.5) < 0.03 and abs(blended.var() - 0.25 / 2.6) < 0.01
    assert abs(share[cutmix].var() - 1 / 12) < 0.01
    sides = np.stack([boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]])[:, cutmix]
    assert (boxes >= 0).all() and (sides <= [[20], [30]]).all() and sides.mean() > 5


@pytest.mark.parametrize(("field", "alone"), [("mixup", False), ("cutmix", True)])
def test_one_of_both(field, alone):
    assert (drawn(64, 64, mode="element", **{field: 1.0})[1] == alone).all()


def test_partners_stay_in_their_group():
    np.testing.assert_array_equal(partners(jnp.arange(8), 4), [3, 2, 1, 0, 7, 6, 5, 4])


def test_without_an_alpha_nothing_is_mixed():
    config, task = task_of("classification")
    config.mix.mixup = config.mix.cutmix = 0.0
    assert mixing_of(config, task) is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mixup", -0.1, "mix.mixup: got -0.1, expected an alpha"),
        ("probability", 1.5, "mix.probability: got 1.5, expected a chance"),
        ("mode", "elem", "mix.mode: got 'elem', expected one of batch, pair, element"),
        ("boxes", "old", "mix.boxes: got 'old', expected one of timm, timm_0_3_2"),
        (
            "group",
            3,
            "mix.group: got 3 images, expected an even number that divides ba",
        ),
        ("group", 6, "mix.group: got 6 images"),
    ],
)
def test_what_makes_no_sense_is_refused(field, value, message):
    config, task = task_of("classification")
    config.mix[field] = value
    with pytest.raises(ValueError, match=message):
        mixing_of(config, task)


def test_a_wrong_word_is_refused_without_mixing_too():
    config, task = task_of("classification")
    config.mix.update({"mixup": 0.0, "cutmix": 0.0})
    assert mixing_of(config, task) is None
    config.mix.mode = "elem"
    with pytest.raises(ValueError, match="mix.mode: got 'elem'"):
        mixing_of(config, task)


def test_a_task_without_labels_is_refused():
    config, _ = task_of("classification")
    task = types.SimpleNamespace(needs_labels=False)
    with pytest.raises(ValueError, match="mix: classification learns from no labels"):
        mixing_of(config, task)
