"""The least that a step must keep, from its trace alone."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax_xfer.train.kept_arrays import kept_bytes, plain_bytes

SIDE = 64
ARRAY = 4 * SIDE * SIDE


def least(function, *shapes):
    """`kept_bytes` of a function of float32 arrays, in arrays of SIDE × SIDE."""
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    jaxpr = jax.make_jaxpr(function)(*arrays).jaxpr
    kept = kept_bytes(jaxpr)
    assert kept <= plain_bytes(jaxpr)
    return kept / ARRAY


SQUARE = (SIDE, SIDE)


def test_nothing_is_kept_of_what_can_be_made_again_of_arguments():
    assert least(lambda x: jnp.exp(x).sum() + jnp.sin(x), SQUARE) == 0
    # A product that is a result may lie where an argument was.
    assert least(lambda x: jnp.exp(x) @ jnp.sin(x), SQUARE) == 0
    assert least(lambda x: jnp.exp(x) @ jnp.sin(x) @ jnp.cos(x), SQUARE) == 1


def test_results_of_products_wait_for_later_ones():
    def chain(x):
        first = x @ x
        second = first @ x
        return second @ first  # `first` is needed again

    assert least(chain, SQUARE) == 2
    # Of a sum of many, one is enough.
    assert least(lambda x: ((x @ x) + (x.T @ x) + (x @ x.T)) @ x, SQUARE) <= 3


def test_the_smallest_of_what_later_ones_can_be_made_of_is_kept():
    def narrow(x):
        first = (x @ x).astype(jnp.bfloat16)
        other = jnp.exp(first.astype(jnp.float32))  # as large as the product, made of half of it
        last = x @ first.astype(jnp.float32)
        return last @ other

    # `last`, and `first` in two bytes a number.
    assert least(narrow, SQUARE) == 1.5

    def wide(x):
        first = (x @ x)[:, :1]  # a column
        return (x @ jnp.broadcast_to(first, SQUARE)) @ jnp.broadcast_to(first, SQUARE)

    assert 1 <= least(wide, SQUARE) < 1.1


def test_an_order_of_one_after_the_other_is_no_reason_to_keep():
    def apart(x):
        parts = [jnp.exp(x * i) @ x for i in range(8)]  # each could be summed at once
        return sum(part.sum() for part in parts)

    assert least(apart, SQUARE) <= 1.1


def layers(number, remat=False, scan=False):
    """A gradient through so many layers of 4·SIDE channels inside, whose input is a product's."""

    def layer(x, weights):
        inside, outside = weights
        return x + jnp.tanh(x @ inside) @ outside, None

    one = jax.checkpoint(layer) if remat else layer

    def loss(weights, x, square):
        x = x @ square
        if scan:
            x, _ = jax.lax.scan(one, x, weights)
        else:
            for i in range(number):
                x, _ = one(x, jax.tree.map(lambda leaf, i=i: leaf[i], weights))
        return (x**2).sum()

    def step(inside, outside, x, square):
        return jax.grad(loss)((inside, outside), x, square)

    shapes = (number, SIDE, 4 * SIDE), (number, 4 * SIDE, SIDE), (8 * SIDE, SIDE), SQUARE
    return least(step, *shapes)


@pytest.mark.parametrize("scan", [False, True])
def test_a_gradient_keeps_what_each_layer_had(scan):
    # Each layer's input, 8, and what is inside it, 32: with the gradients, 8, all that may be said.
    # A loop hands over the activation's slope as well, another 32.
    most = 80 if scan else 48
    assert 40 * 5 <= layers(6, scan=scan) <= most * 6 + 48
    # Recomputed, the inputs alone, beside one layer's inside and the gradients.
    assert 8 * 6 <= layers(6, remat=True, scan=scan) <= 16 * 6 + 80


def test_arrays_that_lead_to_no_result_are_none():
    def unused(x):
        first = x @ x
        second = first @ x
        _ = second @ first
        return second @ x

    assert least(unused, SQUARE) == 1


def test_gradients_that_wait_for_their_norm_are_kept_and_others_need_not_be():
    def step(clip, weights, x):
        grads = [x.T @ (x @ one) for one in weights]
        scale = jnp.minimum(1, 1 / sum((grad**2).sum() for grad in grads)) if clip else 1.0
        return [one - scale * grad for one, grad in zip(weights, grads, strict=True)]

    def of(clip):
        return least(lambda *given: step(clip, given[:-1], given[-1]), *[SQUARE] * 7)

    assert of(clip=True) == 6
    assert of(clip=False) <= 2
