"""A teacher runs its blocks up to the last one that is asked for, and teaches the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs import tiny_config
from vit_jax_xfer.models.multiply_adds import count
from vit_jax_xfer.tasks import distillation
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.placeholder_teacher import placeholder_loader
from vit_jax_xfer.transfer import in_turn

DEPTH = 3


def task_of(name, scan=False, **fields):
    """A task whose teacher has three blocks."""
    config = tiny_config(name, task__teacher="vit_micro_patch2", model__depth=DEPTH, **fields)
    own = {"width": 16, "depth": DEPTH, "num_heads": 2, "image_size": 8, "scan": scan}
    return build_task(config, (8, 8, 3), 10, placeholder_loader({"vit_micro_patch2": own}))


def weights_of(task):
    """Random variables of the student and of the teacher."""
    teacher = jax.jit(task.teacher.init)(jax.random.key(7), jnp.zeros((1, 8, 8, 3)))
    return jax.jit(task.init)(jax.random.key(2)), teacher


def whole(model, variables, depth):
    return model, variables


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize("name", ["attention_distill", "attention_copy", "feature_distill"])
def test_blocks_after_the_last_one_that_is_needed_are_not_run(name, scan, monkeypatch):
    task = task_of(name, scan, task__layers=(0,))
    key = jax.random.key(3)
    batch = {
        "image": jax.random.normal(jax.random.key(1), (8, 8, 8, 3)),
        "label": jnp.arange(8),
    }
    # Only under a scan does the compiled program differ.
    weights = weights_of(task) if scan else (jax.eval_shape(task.init, key), task.frozen)

    def loss(variables, frozen, batch):
        return task.loss(variables, frozen, batch, key)[0]

    def traced():
        # New functions each time, which no cache knows.
        step = jax.jit(jax.grad(lambda *given: loss(*given)))
        found = jax.jit(lambda *given: loss(*given))(*weights, batch) if scan else 0
        return sum(count(step.trace(*weights, batch).jaxpr.jaxpr).values()), found

    fewer, stopped = traced()
    for module in (in_turn, distillation):
        monkeypatch.setattr(module, "first_blocks", whole)
    more, full = traced()
    tokens, width = 8 * 17, 16
    a_block = tokens * 12 * width**2 + 2 * tokens * 17 * width
    assert more - fewer == pytest.approx(2 * a_block, rel=0.02)
    np.testing.assert_allclose(stopped, full, rtol=0, atol=1e-6)


def test_a_teacher_that_shares_drop_path_draws_for_all_its_blocks(monkeypatch):
    fields = {"model__drop_path": 0.5, "task__share_drop_path": True}
    task = task_of("attention_distill", task__layers=(0, 1), **fields)
    images = jax.random.normal(jax.random.key(1), (8, 8, 8, 3))
    variables, frozen = weights_of(task)
    rngs = {"dropout": jax.random.key(3)}
    _, losses = task.teach(variables, frozen, images, True, rngs)
    monkeypatch.setattr(in_turn, "first_blocks", whole)
    _, wanted = task.teach(variables, frozen, images, True, rngs)
    np.testing.assert_array_equal(losses, wanted)


def test_a_teacher_computes_in_the_students_type():
    task = task_of("attention_distill", model__dtype="bfloat16")
    assert task.teacher.dtype == task.model.dtype == jnp.bfloat16
