"""The cross-entropy between attention maps, with and without building the maps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.transfer import losses
from vit_jax_xfer.transfer.map_free import cross_entropy

BATCH, TOKENS, HEADS = 2, 21, 3
# The student's heads are larger than the teacher's, so that a wrong scale shows.
STUDENT_DIM, TEACHER_DIM = 6, 4
VARIANTS = [("plain", 4), ("blockwise", 1024), ("auto", 4)]


@pytest.fixture(autouse=True, params=[8, 16])
def small_blocks(request, monkeypatch):
    """Three blocks of queries, in a loop, or two without one, the last one padded."""
    monkeypatch.setattr(kernels, "QUERY_BLOCK", request.param)


def tensors(dtype=np.float64):
    """The student's q and k, the teacher's q and k, and a cotangent for each image."""
    rng = np.random.default_rng(0)
    shapes = [(BATCH, TOKENS, HEADS, d) for d in (STUDENT_DIM, STUDENT_DIM, TEACHER_DIM)]
    shapes += [shapes[-1], (BATCH,)]
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def by_hand(student_q, student_k, teacher_q, teacher_k):
    """The definition in numpy, float64: (B,)."""

    def log_map(q, k):
        q, k = np.asarray(q, np.float64), np.asarray(k, np.float64)
        scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
        return scores - np.log(np.exp(scores).sum(-1, keepdims=True))

    return (
        -(np.exp(log_map(teacher_q, teacher_k)) * log_map(student_q, student_k))
        .sum(-1)
        .mean((1, 2))
    )


def map_form(*inputs):
    """The loss from the maps themselves, (B,)."""
    return losses.map_cross_entropy(*inputs).mean((1, 2))


@pytest.mark.parametrize(("implementation", "above"), VARIANTS)
def test_value_and_gradients_equal_the_map_form(implementation, above):
    with jax.enable_x64(True):
        *inputs, cotangent = tensors()
        form = partial(cross_entropy, implementation=implementation, blockwise_above=above)
        value, transpose = jax.vjp(form, *inputs)
        wanted, wanted_transpose = jax.vjp(map_form, *inputs)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(wanted, by_hand(*inputs), rtol=1e-12)
        np.testing.assert_allclose(value, wanted, rtol=1e-12)
        names = ("student q", "student k", "teacher q", "teacher k")
        pairs = zip(names, transpose(cotangent), wanted_transpose(cotangent), strict=True)
        for name, got, want in pairs:
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14, err_msg=name)
            # The teacher is a constant in both forms.
            assert bool((got == 0).all()) == name.startswith("teacher"), name


@pytest.mark.parametrize("implementation", ["plain", "blockwise"])
def test_derivative_equals_finite_differences(implementation):
    with jax.enable_x64(True):
        student_q, student_k, teacher_q, teacher_k, cotangent = tensors()

        def total(q, k):
            rows = cross_entropy(q, k, teacher_q, teacher_k, implementation)
            return (cotangent * rows).sum()

        check_grads(total, (student_q, student_k), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_the_least_value_is_the_entropy_and_its_gradient_is_zero():
    with jax.enable_x64(True):
        _, _, q, k, cotangent = tensors()
        value, transpose = jax.vjp(partial(cross_entropy, teacher_q=q, teacher_k=k), q, k)
        weights = np.asarray(kernels.attention_map(q, k))
        np.testing.assert_allclose(
            value, -(weights * np.log(weights)).sum(-1).mean((1, 2)), rtol=1e-12
        )
        for gradient in transpose(cotangent):
            np.testing.assert_allclose(gradient, 0, atol=1e-14)


@pytest.mark.parametrize("implementation", ["plain", "blockwise"])
def test_bfloat16_tensors_give_float32_losses(implementation):
    narrow = tensors(jnp.bfloat16)
    wide = [x.astype(jnp.float32) for x in narrow]

    def value_and_gradients(form, tensors):
        value, transpose = jax.vjp(form, *tensors[:4])
        return value, transpose(wide[-1])[:2]

    form = partial(cross_entropy, implementation=implementation)
    value, gradients = jax.jit(partial(value_and_gradients, form))(narrow)
    wanted, wanted_gradients = jax.jit(partial(value_and_gradients, map_form))(wide)
    assert value.dtype == jnp.float32
    # The teacher's attention over the keys comes out in bfloat16; q against it makes the error.
    np.testing.assert_allclose(value, wanted, atol=0.03)
    for got, want in zip(gradients, wanted_gradients, strict=True):
        assert got.dtype == jnp.bfloat16
        np.testing.assert_allclose(got.astype(jnp.float32), want, atol=0.05)


@pytest.mark.parametrize(
    ("implementation", "above", "maps"), [("plain", 4, True), ("auto", 4, False)]
)
def test_the_asked_form_runs_throughout(implementation, above, maps):
    *inputs, _ = tensors(np.float32)

    def total(*inputs):
        return cross_entropy(*inputs, implementation, above).sum()

    program = str(jax.make_jaxpr(jax.grad(total, (0, 1)))(*inputs))
    assert (f"{TOKENS},{TOKENS}]" in program) == maps
    assert ("scan[" in program) == (not maps)


def test_mean_square_of_each_image():
    rng = np.random.default_rng(0)
    student, teacher = rng.standard_normal((2, BATCH, TOKENS, HEADS, 4)).astype(np.float32)
    wanted = ((student.astype(np.float64) - teacher) ** 2).mean(axis=(1, 2, 3))
    got = losses.mean_square(jnp.asarray(student), jnp.asarray(teacher))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    total = jax.grad(lambda s, t: losses.mean_square(s, t).sum(), (0, 1))
    of_student, of_teacher = total(jnp.asarray(student), jnp.asarray(teacher))
    np.testing.assert_allclose(
        of_student, 2 * (student - teacher) / student[0].size, rtol=1e-5, atol=1e-8
    )
    np.testing.assert_array_equal(of_teacher, 0)
    narrow = losses.mean_square(jnp.asarray(student, jnp.bfloat16), jnp.asarray(teacher))
    assert narrow.dtype == jnp.float32


@pytest.mark.parametrize("implementation", ["plain", "blockwise"])
def test_scores_of_hundreds_stay_finite(implementation):
    """The largest of a row is taken out before exp, in the value and in its derivative."""
    *inputs, _ = tensors(np.float32)
    inputs = [20 * x for x in inputs]
    form = partial(cross_entropy, implementation=implementation)
    found = [
        jax.value_and_grad(lambda *x, form=form: form(*x).sum(), (0, 1))(*inputs)
        for form in (form, map_form)
    ]
    assert found[1][0] > 100
    for got, wanted in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("implementation", ["plain", "blockwise"])
def test_products_of_bfloat16_tensors_are_summed_in_float32(implementation):
    narrow = tensors(jnp.bfloat16)[:4]

    def total(*x):
        return cross_entropy(*x, implementation).sum()

    text = str(jax.make_jaxpr(jax.value_and_grad(total, (0, 1)))(*narrow))
    products = [line for line in text.splitlines() if " = dot_general[" in line]
    assert len(products) == 4  # both sides' scores, and the gradients by q and k
    assert all(":f32[" in line.split(" = ")[0] for line in products)
