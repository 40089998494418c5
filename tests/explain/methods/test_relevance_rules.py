"""Rules keep the total of what arrives, where their papers say so."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.explain.methods import relevance_rules as rules
from vit_jax_xfer.explain.methods.propagate import slopes
from vit_jax_xfer.models.attention.self_attention import Attention
from vit_jax_xfer.models.transformer.block_design import BlockDesign
from vit_jax_xfer.models.transformer.rotary import make_rotation, rotate
from vit_jax_xfer.models.transformer.token_positions import TokenPositions


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@jax.jit
def totals():
    """By rule: relevance that arrives, and what goes to all inputs, summed."""
    x, kernel, arrives = draw(0, 2, 3, 24), draw(1, 24, 5), draw(2, 2, 3, 5)
    a, b, total = draw(3, 2, 3, 4), draw(4, 2, 3, 4), draw(5, 2, 3, 4)
    q, k, v = (draw(6 + i, 2, 3, 2, 4) for i in range(3))
    weights = jax.nn.softmax(draw(9, 2, 2, 3, 3))
    out, rotation = draw(10, 2, 3, 2, 4), make_rotation("dinov3", (1, 2), (1, 2), 4, 100.0, 1)
    pooled = draw(11, 2, 4)
    looked = jnp.einsum("bhts,bshd->bthd", weights, v)
    found = {
        "linear": (arrives, rules.positive_linear(arrives, x @ kernel, x, kernel)[:1]),
        "add": (total, rules.add(total, a + b, a, b)),
        "add_apart": (total, rules.add_apart(total, a + b, a, b)),
        "multiply": (total, rules.multiply(total, a * b, a, b)),
        "mean": (pooled, rules.mean(pooled, a.mean(axis=1), a)),
        "turn": (out, rules.turn(out, rotate(q, rotation), q, rotation)[:1]),
        "look": (out, rules.look(out, looked, weights, v)),
        "scores": (weights, rules.scores(weights, weights, q, k)),
    }
    by_image = {
        name: (arrived.reshape(2, -1).sum(1), sum(x.reshape(2, -1).sum(1) for x in sent))
        for name, (arrived, sent) in found.items()
    }
    # A slope times its value is relevance: of gamma's, without a bias.
    value = x @ kernel
    slope, *_ = rules.gamma_linear(arrives, value, x, kernel, jnp.zeros(5), gamma=0.3)
    before, after = (slope * x).sum((1, 2)), (arrives * value).sum((1, 2))
    plain, *_ = rules.gamma_linear(arrives, value, x, kernel, jnp.zeros(5), gamma=0.0)
    return {**by_image, "gamma": (after, before)}, (plain, arrives @ kernel.T)


def test_relevance_is_kept():
    by_rule, (plain, linear) = totals()
    for name, (arrived, sent) in by_rule.items():
        np.testing.assert_allclose(sent, arrived, rtol=2e-4, atol=2e-5, err_msg=name)
    # Without gamma it is the ordinary derivative.
    np.testing.assert_allclose(plain, linear, rtol=1e-3, atol=1e-4)


@jax.jit
def by_hand():
    """Of one number, where it goes, and the values or slopes of functions with a rule."""
    one = jnp.ones((1, 1))
    x, kernel = jnp.array([[1.0, -1.0, 2.0]]), jnp.array([[1.0, 1.0, -1.0]]).T
    other, weights = jnp.array([[1.0, -2.0, 2.0]]), jnp.array([[1.0, -1.0, -1.0]]).T
    return {
        "linear": rules.positive_linear(one, one, x, kernel)[0],
        "apart": rules.positive_linear_apart(one, one, other, weights)[0],
        "add": jnp.stack(rules.add(one, one, jnp.array([[3.0]]), jnp.array([[1.0]]))),
        "value": rules.pass_on(jnp.array(5.0), jnp.array(2.0)),
        "passed": jax.grad(lambda x: rules.pass_on(x**2, x))(3.0),
        "halved": jax.grad(lambda x: rules.halve(x) * 6)(1.0),
        "ratio": jax.grad(lambda x: rules.ruled(rules.ratio, jnp.tanh(x), x))(2.0),
    }


def test_where_it_goes():
    expected = {
        "linear": [[1, 0, 0]],  # of 1 · 1, −1 · 1 and 2 · −1
        "apart": [[1, 1, 0]],  # 1 · 1 of the first kind, −2 · −1 of the second, each all of it
        "add": [[[0.75]], [[0.25]]],
        "value": 5.0,
        "passed": 1.0,
        "halved": 3.0,
        "ratio": np.tanh(2.0) / 2,
    }
    found = by_hand()
    for name, numbers in expected.items():
        np.testing.assert_allclose(found[name], numbers, rtol=1e-6, atol=1e-6, err_msg=name)


def test_offsets_have_no_second_factor():
    """Queries that meet weights alone, as keys are zeros: all goes to them, half to the values."""
    design = BlockDesign(2, 8, grid=(2, 2), relative_bias="decomposed")
    place = TokenPositions(None, None, (2, 2), 0, (2, 2))
    tokens, attention = draw(0, 1, 4, 8), Attention(design)
    shapes = jax.eval_shape(attention.init, jax.random.key(0), tokens, place)
    variables = jax.tree.map(lambda x: draw(x.size, *x.shape), shapes)
    kernel = variables["params"]["qkv"]["kernel"].at[:, 1].set(0.0)
    bias = variables["params"]["qkv"]["bias"].at[1].set(0.0)
    variables["params"]["qkv"] = {"kernel": kernel, "bias": bias}

    @jax.jit
    def both(tokens):
        def score(tokens):
            return jnp.sin(attention.apply(variables, tokens, place, mutable="attention")[0]).sum()

        plain = jax.grad(score)(tokens)
        with nn.intercept_methods(slopes(constant_maps=False)):
            return plain, jax.grad(score)(tokens)

    plain, ruled = both(tokens)
    np.testing.assert_allclose(ruled, plain / 2, rtol=1e-4, atol=1e-6)
