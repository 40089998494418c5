"""Pallas' splash kernel, interpreted: as float64 for any tokens, any gradient."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.attention_reference import check, draw, expected, tensors
from vit_jax_xfer.models.attention import kernels, splash
from vit_jax_xfer.models.multiply_adds import count
from vit_jax_xfer.train.sharding import make_mesh

# (queries, keys, head size, value's head size): within a block, a whole block, several blocks with
# some added, more keys than queries, head sizes of two networks.
SHAPES = [(21, 21, 8, 6), (128, 128, 8, 8), (300, 300, 16, 16), (5, 300, 8, 12)]


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(splash, "INTERPRET", True)


attend = partial(kernels.dot_product_attention, implementation="splash")


@pytest.mark.parametrize(("queries", "keys", "dim", "value_dim"), SHAPES)
def test_attention_and_every_gradient(queries, keys, dim, value_dim):
    q, k, v, cotangent = tensors(queries, keys, dim, value_dim, np.float32)
    form = jax.jit(partial(attend, scale=0.3))
    out, back = jax.vjp(form, q, k, v)
    wanted, _, gradients = expected(q, k, v, cotangent, 0.3)
    assert out.dtype == jnp.float32
    check(out, wanted, 2e-6)
    for got, want in zip(back(cotangent), gradients, strict=True):
        check(got, want, 5e-6)
    # As the distillation's own derivative asks for it.
    _, for_values = jax.vjp(partial(form, q, k), v)
    check(for_values(cotangent)[0], gradients[2], 5e-6)


def test_bfloat16_inputs_keep_wide_statistics():
    # Scores near 1000: a bfloat16 among them would be off by up to 4.
    q, k, v, cotangent = tensors(21, 21, 16, 6, jnp.bfloat16, scale=10.0)
    scale = 16**-0.5
    wanted, wanted_logsumexp, gradients = expected(q, k, v, cotangent, scale)
    out, back = jax.vjp(attend, q, k, v)
    assert out.dtype == jnp.bfloat16
    check(out, wanted, 2**-7)
    for got, want in zip(back(cotangent), gradients, strict=True):
        assert got.dtype == jnp.bfloat16
        check(got, want, 2**-6)
    _, logsumexp = kernels.logsumexp_without_derivative(
        q, k, v, scale=scale, implementation="splash", blockwise_above=8
    )
    assert logsumexp.dtype == jnp.float32
    np.testing.assert_allclose(logsumexp, wanted_logsumexp, rtol=1e-6, atol=1e-5)


def test_values_of_another_type_give_it_to_the_result():
    q, k = draw(0, 9, 8, np.float32), draw(1, 9, 8, np.float32)
    v = draw(2, 9, 8, jnp.bfloat16)
    assert attend(q, k, v).dtype == jnp.bfloat16


@pytest.mark.parametrize("tokens", [21, 300])
def test_logsumexp(tokens):
    q, k, v, cotangent = tensors(tokens, tokens, 8, 6, np.float32)
    wanted, wanted_logsumexp, _ = expected(q, k, v, cotangent, 0.3)
    out, logsumexp = kernels.logsumexp_without_derivative(
        q, k, v, scale=0.3, implementation="splash", blockwise_above=8
    )
    assert logsumexp.shape == (2, 2, tokens)
    check(out, wanted, 2e-6)
    np.testing.assert_allclose(logsumexp, wanted_logsumexp, rtol=2e-6, atol=1e-6)


def test_no_map_in_the_program():
    x = draw(0, 1500, 8, np.float32, heads=1, batch=1)
    text = str(jax.make_jaxpr(lambda *x: jax.vjp(attend, *x)[1](x[0]))(x, x, x))
    assert "pallas_call" in text
    assert "1500,1500" not in text and "1536,1536" not in text


@pytest.mark.parametrize(
    ("tokens", "block"),
    [
        (1, 128),
        (128, 128),
        (129, 256),
        (197, 256),
        (577, 640),
        (785, 896),
        (1025, 384),
        (3137, 640),
    ],
)
def test_blocks_add_few_tokens(tokens, block):
    assert splash.block_size(tokens) == block


@pytest.mark.parametrize("sizes", [(1, 1, 1), (4, 1, 2)])
def test_products_in_a_kernel_are_counted(sizes):
    """Blocks of 256 tokens, forward and backward, on however many devices."""
    x = draw(0, 256, 8, np.float32, heads=2, batch=4)
    forward = 2 * 4 * 2 * 256**2 * 8

    def gradients(q, k, v):
        return jax.vjp(attend, q, k, v)[1](v)

    with jax.set_mesh(make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])):
        counted = [count(jax.make_jaxpr(f)(x, x, x).jaxpr) for f in (attend, gradients)]
    # Backward: scores and the weights' derivative in both kernels, one product for each array, and
    # each row's own with its derivative.
    backward = 7 * forward // 2 + 4 * 2 * 256 * 8
    assert [one["attention"] for one in counted] == [forward, forward + backward]
    assert [sum(one.values()) for one in counted] == [one["attention"] for one in counted]
