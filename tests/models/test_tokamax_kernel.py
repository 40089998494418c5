"""The optional package tokamax, by what it chooses on this machine: float64's attention."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.attention_reference import check, expected, tensors
from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.train.sharding import make_mesh

pytest.importorskip("tokamax", reason="the optional package tokamax is not installed")

attend = partial(kernels.dot_product_attention, implementation="tokamax")


@pytest.mark.parametrize(("queries", "keys", "value_dim"), [(21, 21, 8), (5, 33, 12)])
@pytest.mark.parametrize("biased", [False, True])
def test_attention_and_every_gradient(queries, keys, value_dim, biased):
    q, k, v, cotangent = tensors(queries, keys, 8, value_dim, np.float32)
    bias = None
    if biased:
        bias = jnp.asarray(np.random.default_rng(4).standard_normal((2, queries, keys)), q.dtype)
    wanted, _, gradients = expected(q, k, v, cotangent, 0.3, bias)
    arrays = (q, k, v) if bias is None else (q, k, v, bias)
    out, back = jax.vjp(partial(attend, scale=0.3), *arrays)
    assert out.dtype == jnp.float32
    check(out, wanted, 2e-6)
    for got, want in zip(back(cotangent), gradients, strict=True):
        check(got, want, 1e-5)
    _, for_values = jax.vjp(lambda v: attend(q, k, v, bias, scale=0.3), v)
    check(for_values(cotangent)[0], gradients[2], 1e-5)


def test_bfloat16_inputs_keep_wide_statistics():
    q, k, v, cotangent = tensors(21, 21, 16, 6, jnp.bfloat16, scale=10.0)
    wanted, _, gradients = expected(q, k, v, cotangent, 16**-0.5)
    out, back = jax.vjp(attend, q, k, v)
    assert out.dtype == jnp.bfloat16
    check(out, wanted, 2**-7)
    for got, want in zip(back(cotangent), gradients, strict=True):
        check(got, want, 2**-6)


def test_each_device_of_a_mesh_computes_its_own():
    q, k, v, cotangent = tensors(21, 21, 8, 6, np.float32, heads=2, batch=4)
    wanted, _, gradients = expected(q, k, v, cotangent, 8**-0.5)
    with jax.set_mesh(make_mesh(2, 2, 2)):
        out, back = jax.vjp(jax.jit(attend), q, k, v)
        got = back(cotangent)
    check(out, wanted, 2e-6)
    for one, want in zip(got, gradients, strict=True):
        check(one, want, 1e-5)
