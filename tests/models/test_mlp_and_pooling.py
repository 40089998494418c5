"""Formulas of the MLPs and of the pools, written again in numpy."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.native import IMAGES, draw, network
from vit_jax_xfer.models.transformer.block_design import ACTIVATIONS, BlockDesign
from vit_jax_xfer.models.transformer.mlp import Mlp
from vit_jax_xfer.models.transformer.pooling import AttentionPool


@pytest.fixture
def rng():
    """Each test's own, so that what it draws doesn't hang on which others ran."""
    return np.random.default_rng(0)


def drawn(module, x, rng):
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    return jax.tree.map(lambda s: rng.standard_normal(s.shape).astype(np.float32), shapes)


DESIGN = BlockDesign(num_heads=2, mlp_dim=6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


FORMULAS = {
    "gelu_tanh": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x * sigmoid(1.702 * x),
    "gelu": lambda x: x / 2 * (1 + np.asarray(jax.lax.erf(x / np.sqrt(2)))),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["plain", "swiglu", "geglu"])
@pytest.mark.parametrize("normalised", [False, True])
def test_formulas_of_the_mlp(kind, activation, normalised, rng):
    mlp = Mlp(dataclasses.replace(DESIGN, mlp=kind, activation=activation, mlp_norm=normalised))
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    params = drawn(mlp, x, rng)["params"]
    dense = {k: x @ p["kernel"] + p["bias"] for k, p in params.items() if k in ("fc1", "gate")}
    hidden, act = dense["fc1"], FORMULAS[activation]
    if kind == "plain":
        hidden = act(hidden)
    elif kind == "swiglu":
        hidden = dense["gate"] * sigmoid(dense["gate"]) * hidden
    else:
        hidden = act(dense["gate"]) * hidden
    if normalised:
        norm = params["norm"]
        hidden = (hidden - hidden.mean(-1, keepdims=True)) / hidden.std(-1, keepdims=True)
        hidden = hidden * norm["scale"] + norm["bias"]
    wanted = hidden @ params["fc2"]["kernel"] + params["fc2"]["bias"]
    np.testing.assert_allclose(mlp.apply({"params": params}, x), wanted, rtol=1e-3, atol=1e-4)


def test_attention_pooling_does_not_see_the_order_of_tokens(rng):
    pool = AttentionPool(dataclasses.replace(DESIGN, mlp="swiglu", mlp_norm=True))
    x = rng.standard_normal((2, 7, 8)).astype(np.float32)
    variables = drawn(pool, x, rng)
    assert set(variables["params"]["mlp"]) == {"fc1", "fc2"}  # plain whatever the blocks have
    found = pool.apply(variables, x)
    assert found.shape == (2, 8)
    np.testing.assert_allclose(pool.apply(variables, x[:, rng.permutation(7)]), found, rtol=1e-5)
    assert np.abs(pool.apply(variables, x[:, :4]) - found).max() > 1e-3


def test_what_other_pools_see():
    model = network(registers=2, pool="cls_avg")
    variables = draw(model, 0)
    out = model.apply(variables, IMAGES, method="forward")
    mean = out.tokens[:, 3:].mean(1)
    wanted = np.concatenate([out.tokens[:, 0], mean], axis=-1)
    np.testing.assert_allclose(out.pooled, wanted, rtol=1e-5, atol=1e-6)
    model = network(registers=2, pool="avg_all", pre_logits=True)
    variables = draw(model, 0)
    out = model.apply(variables, IMAGES, method="forward")
    dense = variables["params"]["representation"]
    wanted = np.tanh(out.tokens.mean(1) @ dense["kernel"] + dense["bias"])
    np.testing.assert_allclose(out.pooled, wanted, rtol=1e-4, atol=1e-5)
