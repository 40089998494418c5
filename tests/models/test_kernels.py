"""Attention kernels: the portable forms compute the same, their statistics are wide."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer import compiler
from vit_jax_xfer.models.attention import kernels

# Three blocks of 8 queries, a loop, or two of 16 without one, and no multiple of either; keys as
# many, values of their own size.
TOKENS, HEADS, DIM, VALUE_DIM = 21, 2, 4, 6


def draw(seed, dim, dtype=np.float64, scale=1.0):
    values = np.random.default_rng(seed).standard_normal((2, TOKENS, HEADS, dim))
    return jnp.asarray(scale * values, dtype)


def reference(q, k, v, scale):
    """Output (B, T, H, e) and log-sum-exp (B, H, T) in numpy, float64."""
    q, k, v = (np.asarray(x.astype(jnp.float32), np.float64) for x in (q, k, v))
    scores = scale * np.einsum("bthd,bshd->bhts", q, k)
    highest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - highest)
    total = weights.sum(-1, keepdims=True)
    out = np.einsum("bhts,bshe->bthe", weights / total, v)
    return out, (highest + np.log(total))[..., 0], weights / total


@pytest.fixture(autouse=True, params=[8, 16])
def small_blocks(request, monkeypatch):
    monkeypatch.setattr(kernels, "QUERY_BLOCK", request.param)


@pytest.mark.parametrize("blockwise", [False, True])
@pytest.mark.parametrize("scale", [0.5, 30.0])
def test_output_and_logsumexp(blockwise, scale):
    q, k, v = draw(0, DIM, np.float32), draw(1, DIM, np.float32), draw(2, VALUE_DIM, np.float32)
    out, logsumexp = kernels.attention_with_logsumexp(q, k, v, scale=scale, blockwise=blockwise)
    wanted, wanted_logsumexp, _ = reference(q, k, v, scale)
    assert out.shape == (2, TOKENS, HEADS, VALUE_DIM)
    np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-5)
    # Scores reach hundreds at the larger scale: without the maximum taken out, exp overflows.
    np.testing.assert_allclose(logsumexp, wanted_logsumexp, rtol=2e-6)


def test_map_times_values_is_attention():
    q, k, v = draw(0, DIM, np.float32), draw(1, DIM, np.float32), draw(2, VALUE_DIM, np.float32)
    wanted, _, wanted_map = reference(q, k, v, DIM**-0.5)
    weights = kernels.attention_map(q, k)
    np.testing.assert_allclose(weights, wanted_map, rtol=1e-5)
    np.testing.assert_allclose(kernels.apply_map(weights, v), wanted, rtol=1e-4, atol=1e-6)
    for name in ("plain", "blockwise"):
        out = kernels.dot_product_attention(q, k, v, implementation=name)
        np.testing.assert_allclose(out, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gradient_of", ["out", "logsumexp"])
def test_gradients_agree(gradient_of):
    with jax.enable_x64(True):
        inputs = draw(0, DIM), draw(1, DIM), draw(2, VALUE_DIM)
        index = ("out", "logsumexp").index(gradient_of)

        def total(form, q, k, v):
            value = form(q, k, v)[index]
            return (value * jnp.cos(jnp.arange(value.size)).reshape(value.shape)).sum()

        def maps(q, k, v):
            scores = kernels.attention_scores(q, k)
            out = kernels.apply_map(kernels.attention_map(q, k), v)
            return out, jax.nn.logsumexp(scores, axis=-1)

        wanted = jax.grad(partial(total, maps), (0, 1, 2))(*inputs)
        for blockwise in (False, True):
            form = partial(kernels.attention_with_logsumexp, scale=DIM**-0.5, blockwise=blockwise)
            for got, want in zip(
                jax.grad(partial(total, form), (0, 1, 2))(*inputs), wanted, strict=True
            ):
                assert got.dtype == jnp.float64
                np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("scale", [DIM**-0.5, 20.0])
def test_a_bias_and_its_gradient(scale):
    """Every form adds the same (H, T, S) to all images' scores; its gradient sums over them."""
    with jax.enable_x64(True):
        inputs = draw(0, DIM), draw(1, DIM), draw(2, VALUE_DIM)
        bias = jnp.asarray(np.random.default_rng(3).standard_normal((HEADS, TOKENS, TOKENS)))
        weights = jnp.asarray(np.random.default_rng(4).standard_normal((2, TOKENS, HEADS, 6)))

        def maps(q, k, v, bias):
            return kernels.apply_map(kernels.attention_map(q, k, bias, scale=scale), v)

        def form(blockwise):
            return lambda *x: kernels.attention_with_logsumexp(
                *x, scale=scale, blockwise=blockwise
            )[0]

        def results(attend):
            def total(*x):
                out = attend(*x)
                return (out * weights).sum(), out

            (_, out), gradients = jax.value_and_grad(total, (0, 1, 2, 3), has_aux=True)(
                *inputs, bias
            )
            return out, *gradients

        q, k, v = (np.asarray(x) for x in inputs)
        scores = scale * np.einsum("bthd,bshd->bhts", q, k) + np.asarray(bias)
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        wanted = np.einsum("bhts,bshe->bthe", scores / scores.sum(-1, keepdims=True), v)
        reference = results(maps)
        np.testing.assert_allclose(reference[0], wanted, rtol=1e-10, atol=1e-13)
        assert reference[4].shape == (HEADS, TOKENS, TOKENS)
        for blockwise in (False, True):
            for got, want in zip(results(form(blockwise)), reference, strict=True):
                assert got.dtype == jnp.float64
                np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("blockwise", [False, True])
def test_bfloat16_inputs_keep_wide_statistics(blockwise):
    # Scores near 1000: a bfloat16 among them would be off by up to 4.
    q, k = draw(0, DIM, jnp.bfloat16, 10.0), draw(1, DIM, jnp.bfloat16, 10.0)
    v = draw(2, VALUE_DIM, jnp.bfloat16)
    wanted, wanted_logsumexp, wanted_map = reference(q, k, v, DIM**-0.5)
    out, logsumexp = kernels.attention_with_logsumexp(q, k, v, scale=DIM**-0.5, blockwise=blockwise)
    assert logsumexp.dtype == jnp.float32
    np.testing.assert_allclose(logsumexp, wanted_logsumexp, rtol=1e-6, atol=1e-5)
    weights = kernels.attention_map(q, k)
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights, wanted_map, rtol=1e-4, atol=1e-9)
    assert out.dtype == jnp.bfloat16
    # Weights and output are rounded to 8 bits: 2⁻⁸ of the largest value each.
    np.testing.assert_allclose(
        out.astype(jnp.float32), wanted, atol=2**-7 * np.abs(np.asarray(v, np.float32)).max()
    )


def test_threshold_selects_the_form():
    """Above the threshold a scan over blocks is in the program, below it is not."""
    x = draw(0, DIM, np.float32)

    def program(above):
        attend = partial(kernels.dot_product_attention, blockwise_above=above)
        return str(jax.make_jaxpr(attend)(x, x, x))

    assert "scan" in program(TOKENS - 1)
    assert f"{TOKENS},{TOKENS}" not in program(TOKENS - 1)
    assert "scan" not in program(TOKENS)
    assert f"{TOKENS},{TOKENS}" in program(TOKENS)


def test_two_blocks_need_no_loop_and_keep_their_sums():
    """Products forward, built again, backward: 2 + 2 + 4 in a loop, where nothing is kept."""
    looped = kernels.QUERY_BLOCK == 8
    x = draw(0, DIM, np.float32)

    def total(*tensors):
        out, logsumexp = kernels.attention_with_logsumexp(*tensors, scale=0.5, blockwise=True)
        return out.sum() + logsumexp.sum()

    gradient = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    products = list(compiler._products(gradient.trace(x, x, x).jaxpr.jaxpr))
    assert len(products) == (8 if looped else 7)
    text = gradient.lower(x, x, x).compile({"xla_backend_optimization_level": 0}).as_text()
    assert (" while(" in text) is looped
