"""What every attention kernel is held against: numpy, float64, and gradients of the plain form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.attention import kernels


def draw(seed, tokens, dim, dtype, heads=2, scale=1.0, batch=2):
    values = np.random.default_rng(seed).standard_normal((batch, tokens, heads, dim))
    return jnp.asarray(scale * values, dtype)


def tensors(queries, keys, dim, value_dim, dtype, **kwargs):
    """q (2, T, H, d), k (2, S, H, d), v (2, S, H, e), and a cotangent of what attention gives."""
    return (
        draw(0, queries, dim, dtype, **kwargs),
        draw(1, keys, dim, dtype, **kwargs),
        draw(2, keys, value_dim, dtype, **{**kwargs, "scale": 1.0}),
        draw(3, queries, value_dim, dtype, **{**kwargs, "scale": 1.0}),
    )


def wide(x):
    return np.asarray(x.astype(jnp.float32), np.float64)


def expected(q, k, v, cotangent, scale, bias=None):
    """Attention, its log-sum-exp, and the derivatives for q, k and v (and a bias), in float64."""
    with jax.enable_x64(True):
        attend = partial(kernels.attention_with_logsumexp, scale=scale, blockwise=False)
        arrays = [jnp.asarray(wide(x)) for x in (q, k, v)]
        arrays += [] if bias is None else [jnp.asarray(wide(bias))]
        (out, logsumexp), back = jax.vjp(attend, *arrays)
        grads = back((jnp.asarray(wide(cotangent)), jnp.zeros_like(logsumexp)))
        # The plain form's own output has its test in numpy: test_kernels.py.
        return np.asarray(out), np.asarray(logsumexp), [np.asarray(x) for x in grads]


def check(got, wanted, tolerance):
    """Equal to `tolerance` of the largest value, of the type and shape that are wanted."""
    assert got.shape == wanted.shape
    np.testing.assert_allclose(wide(got), wanted, rtol=0, atol=tolerance * np.abs(wanted).max())
