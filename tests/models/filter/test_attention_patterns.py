"""The other ways to attend: who hears whom, where one equals another, and odd maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.filter import patterns
from vit_jax_xfer.models.filter.encoder import EncoderLayer

WIDTH, HEADS = 8, 2
GRIDS = [(1, 1), (1, 9), (7, 7), (9, 15)]


def layer_of(attend, grid):
    inner = patterns.DeformableAttention(grid, HEADS) if attend == "deformable" else None
    return EncoderLayer(HEADS, 16, 0.0, jnp.float32, inner)


def ready(attend, grid, batch=2, seed=0):
    """(run, tokens): a layer with random weights under a pattern, as a function of tokens."""
    tokens = jax.random.normal(jax.random.key(seed), (batch, grid[0] * grid[1], WIDTH))
    layer = layer_of(attend, grid)
    variables = layer.init(jax.random.key(1), tokens)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    moved = [x + 0.3 * jax.random.normal(key, x.shape) for x, key in zip(leaves, keys, strict=True)]
    bound = layer.bind(jax.tree.unflatten(tree, moved))
    return lambda x: patterns.run_pattern(attend, bound, x, grid, False), tokens


def hears(run, tokens):
    """(T, T) bool: whether token i's result depends on token j."""
    jacobian = jax.jacobian(lambda x: run(x)[0].sum(-1))(tokens)[:, 0]
    return np.abs(jacobian).sum(-1) > 1e-9


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("attend", patterns.PATTERNS)
def test_any_map_keeps_its_shape(attend, grid):
    run, tokens = ready(attend, grid)
    out = run(tokens)
    assert out.shape == tokens.shape and bool(jnp.isfinite(out).all())


@pytest.mark.parametrize("attend", patterns.PATTERNS)
def test_images_of_a_batch_do_not_hear_each_other(attend):
    run, tokens = ready(attend, (9, 15))
    np.testing.assert_allclose(run(tokens)[:1], run(tokens[:1]), atol=1e-5)


def test_windows_hear_their_own_pixels_alone():
    grid = (8, 15)
    run, tokens = ready("window", grid, batch=1)
    rows, columns = np.divmod(np.arange(8 * 15), 15)
    window = rows // 7 * 3 + columns // 7
    np.testing.assert_array_equal(hears(run, tokens), window[:, None] == window)


def test_all_hear_all():
    run, tokens = ready("all", (3, 4), batch=1)
    assert hears(run, tokens).all()


def test_low_rank_keys_are_the_pixels_where_they_are_few():
    run, tokens = ready("low_rank", (8, 8))
    everything, _ = ready("all", (8, 8))
    np.testing.assert_allclose(run(tokens), everything(tokens), atol=1e-5)


def test_low_rank_cost_is_linear():
    """64 keys for 4,096 pixels: no array of pixels × pixels in the jaxpr."""
    grid = (64, 64)
    layer = layer_of("low_rank", grid)
    tokens = jax.ShapeDtypeStruct((1, 64 * 64, WIDTH), jnp.float32)
    variables = jax.eval_shape(layer.init, jax.random.key(0), tokens)
    text = str(
        jax.make_jaxpr(
            lambda v, x: patterns.run_pattern("low_rank", layer.bind(v), x, grid, False)
        )(variables, tokens)
    )
    assert "4096,64" in text and "4096,4096" not in text


def test_few_hashed_pixels_are_one_bucket():
    run, tokens = ready("lsh", (8, 8))
    everything, _ = ready("all", (8, 8))
    np.testing.assert_allclose(run(tokens), everything(tokens), atol=1e-5)


def test_hashed_pixels_hear_those_like_them():
    """Two kinds of pixels, 64 of each, scattered: each hears its own kind."""
    grid = (8, 16)
    run, _ = ready("lsh", grid, batch=1)
    kind = np.random.default_rng(0).permutation(np.repeat([1.0, -1.0], 64))
    towards = jax.random.normal(jax.random.key(5), (WIDTH,))
    noise = 0.01 * jax.random.normal(jax.random.key(6), (128, WIDTH))
    tokens = (kind[:, None] * towards + noise)[None]
    np.testing.assert_array_equal(hears(run, tokens), kind[:, None] == kind)


@pytest.mark.parametrize("number", [65, 100, 135])
def test_every_hashed_pixel_hears_64(number):
    run, tokens = ready("lsh", (1, number), batch=1)
    heard = hears(run, tokens)
    assert (heard.sum(axis=1) == patterns.CHUNK).all() and heard.diagonal().all()


def test_deformable_samples_where_its_points_are():
    """Weighted bilinear samples against a loop over pixels, points inside and outside."""
    h, w, points = 4, 5, patterns.POINTS
    values = jax.random.normal(jax.random.key(0), (1, h, w, HEADS, 3))
    at = jax.random.uniform(jax.random.key(1), (1, 6, HEADS, points, 2), minval=-1.5, maxval=5.5)
    weights = jax.random.uniform(jax.random.key(2), (1, 6, HEADS, points))
    found = patterns._sample(values, at, weights)
    expected = np.zeros((6, HEADS, 3))
    for n, head, p in np.ndindex(6, HEADS, points):
        y, x = np.asarray(at[0, n, head, p])
        for row, column in np.ndindex(h, w):
            near = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
            expected[n, head] += weights[0, n, head, p] * near * values[0, row, column, head]
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_deformable_points_start_around_the_pixel_and_learn():
    grid = (9, 9)
    layer = patterns.DeformableAttention(grid, HEADS)
    tokens = jax.random.normal(jax.random.key(0), (1, 81, WIDTH))
    variables = layer.init(jax.random.key(1), tokens)
    bias = np.asarray(variables["params"]["offsets"]["bias"]).reshape(HEADS, patterns.POINTS, 2)
    lengths = np.linalg.norm(bias, axis=-1)
    np.testing.assert_allclose(lengths, np.tile(1 + np.arange(patterns.POINTS), (HEADS, 1)), 1e-6)
    np.testing.assert_allclose(bias[0], -bias[1], atol=1e-5)  # two heads look opposite ways
    gradient = jax.grad(lambda p: (layer.apply({"params": p}, tokens) ** 2).sum())(
        variables["params"]
    )
    assert all(float(jnp.abs(x).sum()) > 0 for x in jax.tree.leaves(gradient))
