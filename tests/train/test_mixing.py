"""Mixing in the step: soft targets through losses, the same on any mesh, seen by the teacher."""

import functools

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
from vit_jax_xfer.train.schedule import make_run_schedule
from vit_jax_xfer.train.sharding import make_mesh, place, to_device
from vit_jax_xfer.train.state import _MIXING

ROWS, CLASSES = 16, 5
FIELDS = {"image_size": 4, "width": 8, "depth": 1, "num_heads": 2, "num_classes": CLASSES}
FIELDS["head_init_std"] = 1.0  # so that images differ in their classes


def mixup(batch, key):
    """A blend of each image with the one at its place from the end, and of their labels."""
    share = jax.random.uniform(key, (ROWS,) + (1,) * 3, minval=0.3)
    images = share * batch["image"] + (1 - share) * batch["image"][::-1]
    labels = jax.nn.one_hot(batch["label"], CLASSES)
    share = share[:, :, 0, 0]
    return {**batch, "image": images, "label": share * labels + (1 - share) * labels[::-1]}


def batch():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(ROWS, 4, 4, 3)).astype(np.float32)
    return {"image": images, "label": rng.integers(0, CLASSES, ROWS).astype(np.int32)}


def task_of(name):
    config = tiny_config("logit_distill" if name == "distillation" else "scratch")
    model, settings = create_model("vit_micro_patch2", **FIELDS), task_settings(config.task)
    if name == "classification":
        return config, Classification(model, settings)
    teacher = model.clone(depth=2)
    frozen = jax.jit(teacher.init)(jax.random.key(7), jnp.zeros((1, 4, 4, 3)))
    return config, LogitDistillation(model, settings, teacher, jax.device_get(frozen))


@functools.cache
def step_of(name, devices, mix):
    """(state, metrics, task) after one step of a task on so many devices."""
    config, task = task_of(name)
    config.batch_size = ROWS
    mesh = make_mesh(4, 2, 1) if devices == 8 else one_device_mesh()
    rows = batch()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), rows)
    program = trace_step(task, config, make_run_schedule(config, 1.0), mesh, shapes, mix)
    init = jax.jit(program.init, out_shardings=program.shardings)
    state = init(jax.random.key(0), program.loaded)
    before = jax.device_get(state.variables())
    frozen = place(task.frozen, program.frozen_shardings)
    after, metrics = program.compile()(state, frozen, to_device(rows, mesh))
    return before, jax.device_get(after.params), jax.device_get(metrics), task, config


@pytest.mark.parametrize("name", ["classification", "distillation"])
def test_mixing_is_the_same_on_any_mesh(name):
    _, one, metrics, _, _ = step_of(name, 1, mixup)
    _, eight, others, _, _ = step_of(name, 8, mixup)
    assert metrics.keys() == others.keys()
    for metric, value in metrics.items():
        np.testing.assert_allclose(others[metric], value, rtol=1e-5, err_msg=metric)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=3e-5), eight, one)


def test_teacher_and_labels_are_of_the_mixed_images():
    before, _, metrics, task, config = step_of("distillation", 8, mixup)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), 0), _MIXING)
    for mixed, seen in ((mixup(batch(), key), True), (batch(), False)):
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
