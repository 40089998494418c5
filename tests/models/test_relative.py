"""Relative positions: the index, and tables on another grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.transformer.relative_positions import gather_bias, resize_table, table_rows

SIZES = [
    ((4, 4), (6, 5)),
    ((4, 4), (4, 7)),
    ((7, 7), (4, 4)),
    ((5, 3), (3, 5)),
    ((14, 14), (24, 24)),
]


def draw(grid, heads=3):
    rows = (2 * grid[0] - 1) * (2 * grid[1] - 1) + 3
    return np.random.default_rng(rows).standard_normal((rows, heads)).astype(np.float32)


def places(old, new):
    """Where the samples of an axis lie: 0, ±1, ±(1 + q), …, the last on the end of the new axis."""
    samples, cells = (2 * old - 1) // 2, (2 * new - 1) // 2
    low, high = 1.01, 1.5
    while high - low > 1e-6:
        q = (low + high) / 2
        if sum(q**k for k in range(samples)) > cells:
            high = q
        else:
            low = q
    half = [sum(((low + high) / 2) ** k for k in range(n + 1)) for n in range(samples)]
    return np.array([-x for x in half[::-1]] + [0.0] + half)


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_geometric_is_a_cubic_spline_through_growing_distances(old, new):
    from scipy.interpolate import RectBivariateSpline

    table = draw(old)
    sides, wanted_sides = ((2 * n - 1 for n in grid) for grid in (old, new))
    shape = tuple(sides)
    down, across = (np.arange(n) - n // 2 for n in wanted_sides)
    rows, columns = (
        places(a, b) if a != b else np.arange(1.0 - a, a) for a, b in zip(old, new, strict=True)
    )
    wanted = []
    for head in table[:-3].T:
        spline = RectBivariateSpline(rows, columns, head.reshape(shape), kx=3, ky=3, s=0)
        wanted.append(spline(down, across).reshape(-1))
    found = resize_table(table, old, new, "geometric")
    assert found.shape == (table_rows(new), 3) and found.dtype == jnp.float32
    np.testing.assert_allclose(found[:-3], np.stack(wanted, 1), rtol=1e-4, atol=2e-4)
    np.testing.assert_array_equal(found[-3:], table[-3:])


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_bilinear_is_torchs(old, new):
    torch = pytest.importorskip("torch", reason="needs torch to interpolate")
    table = draw(old)
    sides = [tuple(2 * n - 1 for n in grid) for grid in (old, new)]
    image = torch.from_numpy(table[:-3].T.reshape(1, 3, *sides[0]).copy())
    resized = torch.nn.functional.interpolate(image, sides[1], mode="bilinear")
    found = resize_table(table, old, new, "bilinear")
    np.testing.assert_allclose(found[:-3], resized.reshape(3, -1).T, atol=1e-5)
    np.testing.assert_array_equal(found[-3:], table[-3:])


@pytest.mark.parametrize("how", ["geometric", "bilinear"])
def test_the_same_grid_changes_nothing_and_gradients_flow(how):
    table = draw((4, 4))
    np.testing.assert_array_equal(resize_table(table, (4, 4), (4, 4), how), table)
    gradient = jax.jit(jax.grad(lambda t: resize_table(t, (4, 4), (6, 5), how).sum()))(table)
    # Weights of every new cell sum to one, and the three rows come across as they are.
    np.testing.assert_allclose(gradient.sum(0), np.full(3, 11 * 9 + 3), rtol=1e-4)


@pytest.mark.parametrize(("grid", "prefix"), [((2, 3), 1), ((3, 2), 2), ((1, 4), 0)])
def test_every_pair_reads_the_row_of_its_offset(grid, prefix):
    rows = table_rows(grid)
    bias = np.asarray(gather_bias(jnp.arange(rows)[:, None], grid, prefix))[0]
    h, w = grid
    cells = [(y, x) for y in range(h) for x in range(w)]
    for i, (y, x) in enumerate(cells):
        for j, (v, u) in enumerate(cells):
            offset = (y - v + h - 1) * (2 * w - 1) + (x - u + w - 1)
            assert bias[prefix + i, prefix + j] == offset
    assert (bias[:prefix, prefix:] == rows - 3).all()
    assert (bias[prefix:, :prefix] == rows - 2).all()
    assert (bias[:prefix, :prefix] == rows - 1).all()


def test_opposite_pairs_read_opposite_offsets():
    """The row of (key, query) mirrors that of (query, key) through offset 0."""
    bias = np.asarray(gather_bias(jnp.arange(table_rows((3, 4)))[:, None], (3, 4), 1))[0, 1:, 1:]
    np.testing.assert_array_equal(bias + bias.T, 5 * 7 - 1)
