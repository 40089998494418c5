"""Position tables: MAE's formula, and PyTorch's bicubic resizing (numbers from PyTorch 2.13)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.transformer.positions import (
    fit_positions,
    resize_positions,
    sincos_2d,
)

# A table (1, 1, 4, 5) of (7·k mod 11) / 10 through torch.nn.functional.interpolate(bicubic):
# (antialias, new grid, scale_factor or None) → values.
TORCH = {
    (False, (3, 7), None): [
        *(-0.031374, 0.486421, 0.688661, 0.325232, 0.732465, 0.822609, 0.606172),
        *(0.288192, 0.371283, 0.527979, 0.6, 0.137104, 0.424535, 1.074463),
        *(0.607759, 0.256145, 0.317078, 0.874769, 0.638227, 0.331134, 0.213579),
    ],
    (True, (3, 7), None): [
        *(-0.006456, 0.495665, 0.732019, 0.337986, 0.658372, 0.738156, 0.630521),
        *(0.291262, 0.373961, 0.510021, 0.6, 0.21515, 0.474531, 0.984009),
        *(0.58898, 0.252258, 0.261621, 0.862014, 0.59039, 0.37898, 0.326402),
    ],
    (False, (2, 2), None): [0.755481, 0.581055, 0.04491, 0.410547],
    (True, (2, 2), None): [0.434075, 0.597531, 0.41891, 0.520024],
    (False, (3, 6), (3.1 / 4, 6.1 / 5)): [
        *(-0.01809, 0.604401, 0.508702, 0.492861, 0.89546, 0.620327),
        *(0.277411, 0.455441, 0.630693, 0.357956, 0.176567, 0.984051),
        *(0.582752, 0.142684, 0.530044, 0.806433, 0.400323, 0.333993),
    ],
    (True, (3, 6), (3.1 / 4, 6.1 / 5)): [
        *(0.002212, 0.639263, 0.54588, 0.461235, 0.796708, 0.631678),
        *(0.27707, 0.439179, 0.588351, 0.409979, 0.242818, 0.943997),
        *(0.567992, 0.147207, 0.51661, 0.772998, 0.41591, 0.388625),
    ],
}


@pytest.mark.parametrize(("antialias", "grid", "scale"), TORCH)
def test_resizing_equals_torch(antialias, grid, scale):
    table = ((7 * np.arange(20)) % 11 / 10).reshape(1, 20, 1)
    got = resize_positions(table, (4, 5), grid, 0, antialias, scale)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got.ravel(), TORCH[antialias, grid, scale], atol=1e-5)


# The same by interpolate(bicubic, align_corners=True).
CORNERS = {
    (3, 7): [
        *(0.0, 0.524074, 0.612963, 0.3, 0.801852, 0.951852, 0.6),
        *(0.3, 0.386111, 0.54184, 0.6, 0.162905, 0.326273, 1.003125),
        *(0.6, 0.248148, 0.398148, 0.9, 0.709259, 0.32963, 0.1),
    ],
    (2, 2): [0.0, 0.6, 0.6, 0.1],
}


@pytest.mark.parametrize("grid", CORNERS)
def test_corners_on_corners_equal_torch(grid):
    table = ((7 * np.arange(20)) % 11 / 10).reshape(1, 20, 1)
    got = fit_positions(table, (4, 5), grid, 0, "bicubic_corners")
    np.testing.assert_allclose(got.ravel(), CORNERS[grid], atol=1e-5)


@pytest.mark.parametrize("antialias", [False, True])
def test_same_grid_changes_nothing(antialias):
    table = np.random.default_rng(0).standard_normal((1, 2 + 15, 8)).astype(np.float32)
    same = resize_positions(table, (3, 5), (3, 5), 2, antialias)
    np.testing.assert_allclose(same, table, atol=1e-6)


def test_prefix_stays_and_gradients_flow_under_jit():
    table = jax.random.normal(jax.random.key(0), (1, 1 + 16, 4))

    @jax.jit
    def total(table):
        resized = resize_positions(table, (4, 4), (7, 6))
        return resized.sum(), resized

    (_, resized), gradient = jax.value_and_grad(total, has_aux=True)(table)
    assert resized.shape == (1, 1 + 42, 4)
    np.testing.assert_array_equal(resized[:, 0], table[:, 0])
    # Every new cell's weights sum to one, so the gradients do to the number of cells.
    np.testing.assert_allclose(gradient.sum(axis=1), np.full((1, 4), 43.0), rtol=1e-5)


def test_wrong_number_of_positions_is_named():
    with pytest.raises(ValueError, match=r"positions: got shape \(1, 17, 4\)"):
        resize_positions(np.zeros((1, 17, 4)), (4, 5), (4, 4))


def test_sincos_is_columns_then_rows_sines_then_cosines():
    table = sincos_2d((2, 3), 8, prefix_tokens=2)
    assert table.shape == (1, 8, 8)
    assert table.dtype == np.float32
    np.testing.assert_array_equal(table[0, :2], 0)
    row, column = 1, 2
    expected = [
        *(np.sin(column), np.sin(column / 100), np.cos(column), np.cos(column / 100)),
        *(np.sin(row), np.sin(row / 100), np.cos(row), np.cos(row / 100)),
    ]
    np.testing.assert_allclose(table[0, 2 + row * 3 + column], expected, rtol=1e-6)


def test_sincos_needs_a_multiple_of_four():
    with pytest.raises(ValueError, match="width: 6"):
        sincos_2d((2, 2), 6)
