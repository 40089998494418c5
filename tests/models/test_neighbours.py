"""Sums over the cells around a parent, against loops in float64; what they cost; who pays."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.lifting.neighbours import (
    add_by_child,
    combine,
    neighbour_sum,
    products,
    squared_distances,
    weighted_sum,
    weights_inside,
)


def draw(batch, grid, channels, radius, seed=0):
    """Features, logits, queries of that many channels."""
    rng = np.random.default_rng(seed)
    fine = (batch, 2 * grid[0], 2 * grid[1])
    shapes = (batch, *grid, channels), (*fine, (2 * radius + 1) ** 2), (*fine, channels)
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)


def neighbours(grid, radius):
    """For each fine cell: itself, and (which neighbour, its row, its column) of those inside."""
    side = 2 * radius + 1
    for y in range(2 * grid[0]):
        for x in range(2 * grid[1]):
            around = [
                (k, y // 2 + k // side - radius, x // 2 + k % side - radius) for k in range(side**2)
            ]
            yield (y, x), [(k, i, j) for k, i, j in around if 0 <= i < grid[0] and 0 <= j < grid[1]]


# Grids smaller than a window, and longer than a block of parents.
CASES = [((1, 1), 1), ((3, 2), 2), ((4, 19), 1), ((2, 8), 3), ((9, 5), 2)]


@pytest.mark.parametrize(("grid", "radius"), CASES)
def test_combinations_are_those_of_a_loop(grid, radius):
    features, logits, queries = draw(2, grid, 3, radius)
    found = jax.jit(combine)(features, logits)
    multiplied = jax.jit(products, static_argnums=2)(queries, features, radius)
    for (y, x), cells in neighbours(grid, radius):
        kept = np.array([k for k, _, _ in cells])
        weights = np.exp(logits[:, y, x, kept].astype(np.float64))
        weights /= weights.sum(-1, keepdims=True)
        around = np.stack([features[:, i, j] for _, i, j in cells], 1)
        wanted = np.einsum("bk,bkc->bc", weights, around)
        np.testing.assert_allclose(found[:, y, x], wanted, atol=1e-5)
        wanted = np.zeros_like(logits[:, y, x])
        wanted[:, kept] = np.einsum("bc,bkc->bk", queries[:, y, x], around)
        np.testing.assert_allclose(multiplied[:, y, x], wanted, atol=1e-5)


def test_weights_sum_to_one_inside_and_are_nothing_outside():
    logits = np.full((1, 4, 6, 25), -2e4, np.float32)
    weights = weights_inside(logits)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-6)
    number = {cell: len(cells) for cell, cells in neighbours((2, 3), 2)}
    for (y, x), cells in number.items():
        assert int((weights[0, y, x] > 0).sum()) == cells


@pytest.mark.parametrize(("grid", "radius"), [((3, 2), 1), ((2, 9), 2)])
def test_gradients_are_those_of_finite_differences(grid, radius):
    with jax.enable_x64(True):
        inputs = [jnp.asarray(x, jnp.float64) for x in draw(1, grid, 2, radius)]
        wanted = jnp.asarray(draw(1, grid, 2, radius, 1)[2], jnp.float64)

        def loss(features, logits, queries):
            scores = products(queries, features, radius)
            return (jnp.sin(combine(features, logits + scores)) * wanted).sum()

        gradients = jax.jit(jax.grad(loss, (0, 1, 2)))(*inputs)
        ways = [jnp.asarray(x, jnp.float64) for x in draw(1, grid, 2, radius, 2)]
        step = 1e-5
        for which in range(3):
            ends = []
            for sign in (1, -1):
                moved = list(inputs)
                moved[which] += sign * step * ways[which]
                ends.append(loss(*moved))
            np.testing.assert_allclose(
                (gradients[which] * ways[which]).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-8
            )


def test_the_derivative_is_that_of_the_sum_itself():
    features, weights, _ = draw(2, (4, 9), 3, 2)

    def loss(function, *inputs):
        return (function(*inputs) ** 3).sum()

    found, wanted = (
        jax.jit(jax.grad(functools.partial(loss, function), (0, 1)))(features, weights)
        for function in (weighted_sum, neighbour_sum)
    )
    for ours, plain in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-4)


def test_memory_grows_far_slower_than_the_window():
    def loss(features, logits, queries):
        radius = math.isqrt(logits.shape[-1]) // 2
        return (combine(features, logits + products(queries, features, radius)) ** 2).sum()

    for function in (loss, jax.grad(loss, (0, 1, 2))):
        sizes = []
        for radius in (1, 2):  # of 9 and of 25 neighbours
            shapes = [x.shape for x in draw(2, (12, 12), 512, radius)]
            inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
            memory = jax.jit(function).lower(*inputs).compile().memory_analysis()
            sizes.append(memory.temp_size_in_bytes)
        assert sizes[1] < 2 * sizes[0]


def test_a_batch_split_over_devices_stays_split():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    inputs = draw(8, (2, 3), 4, 1)

    def loss(features, logits, queries):
        return (combine(features, logits + products(queries, features, 1)) ** 2).sum()

    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))
    placed = jax.device_put(inputs, split)
    program = gradients.lower(*placed).compile()
    assert not re.search("all-gather|all-to-all|collective-permute", program.as_text())
    for found, wanted in zip(program(*placed), gradients(*inputs), strict=True):
        assert found.sharding.is_equivalent_to(split, 4)
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_half_precision_is_summed_in_full():
    features, logits, _ = draw(1, (3, 3), 4, 2)
    rounded = jnp.asarray(features, jnp.bfloat16)
    found = combine(rounded, jnp.asarray(logits, jnp.bfloat16))
    assert found.dtype == jnp.bfloat16
    exact = combine(rounded.astype(jnp.float32), jnp.asarray(logits, jnp.bfloat16))
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))
    gradients = jax.grad(lambda x: combine(x, logits).astype(jnp.float32).sum())(rounded)
    assert gradients.dtype == jnp.bfloat16


def test_distances_are_those_of_centres():
    distances = squared_distances(1)
    assert distances.shape == (2, 2, 9)
    # The upper left child lies a quarter of a cell from its parent's centre, each way.
    assert distances[0, 0, 4] == 2 * 0.25**2
    assert distances[0, 0, 0] == 2 * 0.75**2
    assert distances[1, 0, 8] == 0.75**2 + 1.25**2
    np.testing.assert_array_equal(distances[1, 1], distances[0, 0, ::-1])
    added = add_by_child(jnp.zeros((2, 4, 6, 9)), jnp.asarray(distances))
    np.testing.assert_array_equal(added[1, 2:, 4:], distances)


@pytest.mark.parametrize(
    ("coarse", "logits", "message"),
    [
        ((1, 2, 3, 4), (1, 4, 6, 16), r"logits: 16 neighbours are no \(2·radius \+ 1\)²"),
        ((1, 2, 3, 4), (1, 4, 6, 12), "logits: 12 neighbours"),
        ((1, 2, 3, 4), (1, 4, 7, 9), "logits: 4×7 cells are not twice a grid"),
        ((1, 2, 3, 4), (1, 4, 8, 9), r"weights: got shape \(1, 4, 8, 9\), expected \(1, 4, 6, …\)"),
        ((2, 2, 3, 4), (1, 4, 6, 9), r"weights: .* expected \(2, 4, 6, …\): twice a grid of 2×3"),
    ],
)
def test_what_does_not_fit_is_named(coarse, logits, message):
    with pytest.raises(ValueError, match=message):
        combine(jnp.zeros(coarse), jnp.zeros(logits))
    if "neighbours" not in message and "not twice" not in message:
        with pytest.raises(ValueError, match="queries: got shape"):
            products(jnp.zeros((*logits[:3], 4)), jnp.zeros(coarse), 1)
