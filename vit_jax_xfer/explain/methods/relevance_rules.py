"""Rules by which relevance goes back through one operation, in place of its derivative.

`ruled(rule, value, *inputs)` is the value, and its cotangent goes to the inputs by the rule
(what arrives, the value, the inputs) → one for each input. Two kinds of cotangent are in use:

* slopes, whose product with a value is its relevance (AttnLRP and CP-LRP, 2402.05602, in the form
  that keeps linear operations' own derivative: there the division by the result cancels);
* relevance itself (2012.09838).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.transformer.rotary import Rotation, rotate

Rule = Callable[..., tuple[Any, ...]]
_TINY = 1e-9  # of denominators, as 2012.09838's code has it


def ruled(rule: Rule, value: jax.Array, *inputs: Any) -> jax.Array:
    """The value; what arrives at it goes to the inputs by the rule, which closes over no array."""
    # Cut off, lest zeros go back through what computed it, at the cost of its derivative.
    return _ruled(rule, jax.lax.stop_gradient(value), *inputs)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _ruled(rule: Rule, value: jax.Array, *inputs: Any) -> jax.Array:
    return value


def _keep(rule: Rule, value: jax.Array, *inputs: Any) -> tuple[jax.Array, Any]:
    return value, (value, inputs)


def _send(rule: Rule, kept: Any, arrived: jax.Array) -> tuple[Any, ...]:
    value, inputs = kept
    return jnp.zeros_like(value), *rule(arrived, value, *inputs)


_ruled.defvjp(_keep, _send)


def pass_on(value: jax.Array, x: jax.Array) -> jax.Array:
    """The value of a function of x, through which what arrives passes unchanged."""
    return ruled(lambda arrived, value, x: (arrived,), value, x)


def halve(x: jax.Array) -> jax.Array:
    """x, of which half of what arrives goes back: two factors of a product share it."""
    return ruled(lambda arrived, value, x: (arrived / 2,), x, x)


# Slopes


def ratio(slope: jax.Array, value: jax.Array, x: jax.Array) -> tuple[jax.Array]:
    """Of a function of each number alone: its value over its argument."""
    return (slope * value / (x + 1e-10),)


def gamma_linear(
    slope: jax.Array,
    value: jax.Array,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    *,
    gamma: float,
) -> tuple[Any, ...]:
    """Of x (…, C) @ kernel (C, D) + bias, the generalised gamma rule.

    Where the value is positive its positive parts count 1 + gamma times, where it is negative its
    negative ones. Inputs of both signs, as zennit 0.5 has it.
    """
    plus, minus = jnp.maximum(x, 0), jnp.minimum(x, 0)
    upper, lower = (kernel + gamma * part(kernel, 0) for part in (jnp.maximum, jnp.minimum))
    to_plus = to_minus = 0.0
    for here, for_plus, for_minus, offset in (
        (value > 0, upper, lower, bias + gamma * jnp.maximum(bias, 0)),
        (value < 0, lower, upper, bias + gamma * jnp.minimum(bias, 0)),
    ):
        total = plus @ for_plus + minus @ for_minus + offset
        total = total + jnp.where(total < 0, -1e-6, 1e-6)
        share = jnp.where(here, slope * value / total, 0.0)
        to_plus = to_plus + share @ for_plus.T
        to_minus = to_minus + share @ for_minus.T
    return jnp.where(x > 0, to_plus, to_minus), jnp.zeros_like(kernel), jnp.zeros_like(bias)


# Relevance


def divide(a: jax.Array, b: jax.Array) -> jax.Array:
    """a / (b + 10⁻⁹), 0 where b is 0."""
    below = jnp.where(b == -_TINY, _TINY, b + _TINY)
    return jnp.where(b == 0, 0.0, a / jnp.where(b == 0, 1.0, below))


def positive_linear(
    relevance: jax.Array, value: jax.Array, x: jax.Array, kernel: jax.Array
) -> tuple[Any, ...]:
    """Of x (…, C) @ kernel (C, D): by the positive parts of its sum; a bias gets none."""
    plus, minus = jnp.maximum(x, 0), jnp.minimum(x, 0)
    upper, lower = jnp.maximum(kernel, 0), jnp.minimum(kernel, 0)
    share = divide(relevance, plus @ upper + minus @ lower)
    return plus * (share @ upper.T) + minus * (share @ lower.T), jnp.zeros_like(kernel)


def positive_linear_apart(
    relevance: jax.Array, value: jax.Array, x: jax.Array, kernel: jax.Array
) -> tuple[Any, ...]:
    """As `positive_linear`, but parts of two positive and of two negative numbers have a sum each.

    Both then send on all of the relevance (the older rules of 2012.09838's code).
    """
    sent = 0.0
    for cut in (jnp.maximum, jnp.minimum):
        part, weights = cut(x, 0), cut(kernel, 0)
        sent = sent + part * (divide(relevance, part @ weights) @ weights.T)
    return sent, jnp.zeros_like(kernel)


def add(
    relevance: jax.Array, value: jax.Array, a: jax.Array, b: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of a + b: in proportion to both, and then scaled so that each image's total stays.

    The two totals are as the magnitudes of what both had got.
    """
    share = divide(relevance, a + b)
    axes = tuple(range(1, relevance.ndim))
    total = relevance.sum(axes, keepdims=True)
    got_a, got_b = (part.sum(axes, keepdims=True) for part in (a * share, b * share))
    both = jnp.abs(got_a) + jnp.abs(got_b)
    return tuple(
        part * share * divide(divide(jnp.abs(got), both) * total, got)
        for part, got in ((a, got_a), (b, got_b))
    )


def add_apart(
    relevance: jax.Array, value: jax.Array, a: jax.Array, b: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of a + b: in proportion to both (the older rules)."""
    share = divide(relevance, a + b)
    return a * share, b * share


def mean(relevance: jax.Array, value: jax.Array, tokens: jax.Array) -> tuple[jax.Array]:
    """Of the mean of tokens (B, T, C): in proportion to each."""
    return (tokens * divide(relevance, tokens.sum(axis=1))[:, None],)


def multiply(
    relevance: jax.Array, value: jax.Array, a: jax.Array, b: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of a · b: half to each."""
    return relevance / 2, relevance / 2


def turn(
    relevance: jax.Array, value: jax.Array, x: jax.Array, rotation: Rotation
) -> tuple[jax.Array, Rotation]:
    """Of a rotation: in proportion to each number's part in the result."""
    back = jax.linear_transpose(lambda x: rotate(x, rotation), x)
    return x * back(divide(relevance, value))[0], jax.tree.map(jnp.zeros_like, rotation)


def scores(
    relevance: jax.Array, value: jax.Array, q: jax.Array, k: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of q (B, T, H, d) and k (B, S, H, d) in a map (B, H, T, S): halves, by their products' parts.

    The softmax, the scale and a bias pass it on.
    """
    share = divide(relevance, jnp.einsum("bthd,bshd->bhts", q, k)) / 2
    to_q = jnp.einsum("bhts,bshd->bthd", share, k)
    return q * to_q, k * jnp.einsum("bhts,bthd->bshd", share, q)


def look(
    relevance: jax.Array, value: jax.Array, weights: jax.Array, v: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Of a map (B, H, T, S) times values (B, S, H, d): halves, by their products' parts."""
    share = divide(relevance, value) / 2
    to_weights = jnp.einsum("bthd,bshd->bhts", share, v)
    return weights * to_weights, v * jnp.einsum("bhts,bthd->bshd", weights, share)
