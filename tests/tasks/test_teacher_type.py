"""A teacher in a type of its own: kept and computing in it, while the loss stays float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs import tiny_config
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.placeholder_teacher import zeros_of
from vit_jax_xfer.tasks.teachers import keep_in
from vit_jax_xfer.train.workdir import fingerprint

NAMES = ["attention_distill", "attention_copy", "logit_distill"]


def random_in(shapes, seed):
    """Numbers so large that attention is far from uniform."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.float32(0.3 * rng.normal(size=x.shape)), shapes)


def task_of(name, **fields):
    """A task with a teacher of random weights."""
    model = create_model(
        "vit_micro_patch2", image_size=8, width=16, depth=2, num_heads=2, num_classes=10
    )
    weights = random_in(jax.eval_shape(model.init, jax.random.key(7), jnp.zeros((1, 8, 8, 3))), 7)
    config = tiny_config(name, task__teacher="random", **fields)
    return build_task(config, (8, 8, 3), 10, lambda *given: (model, weights))


def loss_and_gradient(task):
    """Loss and teacher's loss on random images, and the gradient that the student gets."""
    images = jax.random.normal(jax.random.key(1), (16, 8, 8, 3))
    batch = {"image": images, "label": np.arange(16) % 10}
    # A fresh student's head is zero and its attention uniform, whatever the teacher says.
    variables = random_in(jax.eval_shape(task.init, jax.random.key(2)), 2)

    step = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
    (value, aux), gradient = step(variables, task.frozen, batch, jax.random.key(3))
    return value, aux.metrics["teacher_loss"], gradient


@pytest.mark.parametrize("name", NAMES)
def test_a_teacher_in_bfloat16_teaches_nearly_the_same_in_float32(name):
    half = task_of(name, task__teacher_dtype="bfloat16")
    assert half.teacher.dtype == jnp.bfloat16 and half.model.dtype == jnp.float32
    assert {leaf.dtype.name for leaf in jax.tree.leaves(half.frozen)} == {"bfloat16"}
    found, wanted = loss_and_gradient(half), loss_and_gradient(task_of(name))
    assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    assert float(found[0]) != float(wanted[0])  # it did compute in another type
    np.testing.assert_allclose(found[:2], wanted[:2], rtol=2e-3)
    for value, other in zip(*map(jax.tree.leaves, (found[2], wanted[2])), strict=True):
        np.testing.assert_allclose(value, other, rtol=0, atol=2e-2 * max(abs(other).max(), 1e-3))


def test_a_teacher_multiplies_in_its_own_type_or_as_its_student():
    own = task_of("attention_distill", task__teacher_product_dtype="bfloat16")
    assert (own.teacher.product_dtype, own.model.product_dtype) == (jnp.bfloat16, None)
    like = task_of("attention_distill", model__product_dtype="bfloat16")
    assert like.teacher.product_dtype == jnp.bfloat16
    message = "task.teacher_product_dtype: 'int8' is none of bfloat16, float32; "
    with pytest.raises(ValueError, match=message):
        task_of("attention_copy", task__teacher_product_dtype="int8")


def test_a_teacher_may_be_finer_than_its_student():
    task = task_of("attention_distill", model__dtype="bfloat16", task__teacher_dtype="float32")
    assert (task.teacher.dtype, task.model.dtype) == (jnp.float32, jnp.bfloat16)
    loss, _, gradient = loss_and_gradient(task)
    assert loss.dtype == jnp.float32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_without_a_type_it_is_kept_as_it_is_stored():
    task = task_of("attention_distill", model__dtype="bfloat16")
    assert task.teacher.dtype == jnp.bfloat16
    assert {leaf.dtype.name for leaf in jax.tree.leaves(task.frozen)} == {"float32"}


@pytest.mark.parametrize("dtype", ["float16", "bf16", "int8"])
def test_an_unknown_type_is_named_with_the_choices(dtype):
    message = f"task.teacher_dtype: '{dtype}' is none of bfloat16, float32; "
    with pytest.raises(ValueError, match=message) as caught:
        task_of("attention_copy", task__teacher_dtype=dtype)
    assert len(str(caught.value).splitlines()) == 1


def test_the_type_is_part_of_the_fingerprint():
    frozen = task_of("attention_copy").frozen
    prints = {fingerprint(frozen)} | {
        fingerprint(keep_in(frozen, d)) for d in ("bfloat16", "float32")
    }
    assert len(prints) == 2
    # Of the numbers as well, whatever their type.
    other = jax.tree.map(lambda x: 2 * x, keep_in(frozen, "bfloat16"))
    assert fingerprint(other) not in prints


def test_only_floating_numbers_change_and_stand_ins_take_no_memory():
    kept = keep_in({"index": np.arange(3), "w": np.float32([1.0, 2.5])}, "bfloat16")
    assert kept["index"].dtype == np.arange(3).dtype
    np.testing.assert_array_equal(kept["w"], np.float32([1.0, 2.5]))
    zeros = keep_in(zeros_of(create_model("vit_large_patch16")), "bfloat16")
    leaves = jax.tree.leaves(zeros)
    assert {leaf.dtype.name for leaf in leaves} == {"bfloat16"}
    assert not any(any(leaf.strides) for leaf in leaves)
