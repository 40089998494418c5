"""The cross-entropy with a bias in the scores, and with means of the teacher's maps as targets."""

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
NAMES = ("student q", "student k", "teacher q", "teacher k", "student bias", "teacher bias")
# Which sides have a bias, how many heads the teacher has, and how many groups they form.
CASES = {
    "both biased": (True, True, 3, None),
    "student biased": (True, False, 3, None),
    "teacher biased": (False, True, 3, None),
    "mean of two": (False, False, 6, 3),
    "mean of all": (False, False, 4, 1),
    "mean of all, biased": (True, True, 4, 1),
    "mean of two, biased": (False, True, 6, 3),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Three blocks of queries, the last one padded."""
    monkeypatch.setattr(kernels, "QUERY_BLOCK", 8)


def tensors(case, dtype=np.float64):
    """q, k and biases of both sides, the groups, and a cotangent for each image."""
    student_biased, teacher_biased, heads, groups = CASES[case]
    rng = np.random.default_rng(0)
    shapes = [(BATCH, TOKENS, HEADS, STUDENT_DIM)] * 2 + [(BATCH, TOKENS, heads, TEACHER_DIM)] * 2
    shapes += [(HEADS, TOKENS, TOKENS), (heads, TOKENS, TOKENS), (BATCH,)]
    *arrays, cotangent = (jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes)
    arrays[4] = arrays[4] if student_biased else None
    arrays[5] = arrays[5] if teacher_biased else None
    return arrays, groups, cotangent


def by_hand(arrays, groups):
    """The definition in numpy, float64, head by head: (B,)."""

    def log_map(q, k, bias):
        scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
        scores = scores if bias is None else scores + np.asarray(bias)
        return scores - np.log(np.exp(scores).sum(-1, keepdims=True))

    student_q, student_k, teacher_q, teacher_k, student_bias, teacher_bias = arrays
    student = log_map(student_q, student_k, student_bias)
    teacher = np.exp(log_map(teacher_q, teacher_k, teacher_bias))
    parts = np.split(teacher, groups or HEADS, axis=1)
    means = [part.mean(axis=1) for part in parts] * (HEADS // len(parts))
    return np.stack([-(means[h] * student[:, h]).sum(-1) for h in range(HEADS)], axis=1).mean(
        (1, 2)
    )


def map_free(student_q, student_k, teacher_q, teacher_k, student_bias, teacher_bias, groups):
    return cross_entropy(
        student_q,
        student_k,
        teacher_q,
        teacher_k,
        student_bias=student_bias,
        teacher_bias=teacher_bias,
        groups=groups,
    )


@pytest.mark.parametrize("case", CASES)
def test_value_and_gradients_equal_the_map_form(case):
    with jax.enable_x64(True):
        arrays, groups, cotangent = tensors(case)
        value, transpose = jax.vjp(lambda *x: map_free(*x, groups), *arrays)
        wanted, wanted_transpose = jax.vjp(
            lambda *x: losses.map_cross_entropy(*x, groups=groups).mean((1, 2)), *arrays
        )
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(wanted, by_hand(arrays, groups), rtol=1e-12)
        np.testing.assert_allclose(value, wanted, rtol=1e-12)
        pairs = zip(NAMES, transpose(cotangent), wanted_transpose(cotangent), strict=True)
        for name, got, want in pairs:
            assert (got is None) == (want is None)
            if got is None:
                continue
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-14, err_msg=name)
            # The teacher is a constant in both forms.
            assert bool((got == 0).all()) == name.startswith("teacher"), name


@pytest.mark.parametrize("case", ["both biased", "mean of all, biased"])
def test_derivative_equals_finite_differences(case):
    with jax.enable_x64(True):
        (q, k, teacher_q, teacher_k, bias, teacher_bias), groups, cotangent = tensors(case)

        def total(q, k, bias):
            return (
                cotangent * map_free(q, k, teacher_q, teacher_k, bias, teacher_bias, groups)
            ).sum()

        check_grads(total, (q, k, bias), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_bfloat16_tensors_give_float32_losses():
    arrays, groups, _ = tensors("mean of all, biased", jnp.bfloat16)
    got = map_free(*arrays, groups)
    wanted = map_free(*(x.astype(jnp.float32) for x in arrays), groups)
    assert got.dtype == jnp.float32
    # Products are summed, and maps kept, in float32: only the inputs are narrow, and in both.
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_neither_bias_nor_mean_is_the_form_with_its_own_derivative():
    arrays, _, _ = tensors("mean of two", np.float32)
    q, k = arrays[:2]

    def program(*options):
        return str(jax.make_jaxpr(lambda q, k: map_free(q, k, q, k, *options))(q, k))

    assert "custom_vjp" in program(None, None, None)
    bias = jnp.zeros((HEADS, TOKENS, TOKENS))
    for options in ((bias, None, None), (None, bias, None), (None, None, HEADS)):
        assert "custom_vjp" not in program(*options)
        assert f"[{BATCH},{HEADS},{TOKENS},{TOKENS}]" not in program(*options)
