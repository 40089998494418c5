"""Where cells lie: of patches that overlap, doubled ones, and those that share an image evenly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.cell_places import (
    CellAxis,
    even_axis,
    even_places,
    patch_places,
    places_or_even,
)


def test_overlapping_patches_lie_where_their_middles_do():
    # Patches of 8 pixels every 2 of 20: 7 of them, with middles at 4, 6, … 16.
    axis = patch_places((20, 20), 8, 2).rows
    assert axis.number == 7 and axis.span == 10
    np.testing.assert_allclose(20 * axis.middles(), [4, 6, 8, 10, 12, 14, 16])
    # What rises evenly is interpolated to itself between the outermost middles.
    found = axis.weights(even_axis(20)) @ (20 * axis.middles())
    np.testing.assert_allclose(found, np.clip(np.arange(20) + 0.5, 4, 16), rtol=1e-6)
    np.testing.assert_array_equal(
        axis.nearest_to(20), [0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 6, 6]
    )
    assert [axis.cell_at(share) for share in (0, 0.24, 0.26, 0.999, 1)] == [0, 0, 1, 6, 6]
    np.testing.assert_allclose(axis.edges(20), [0, 5, 7, 9, 11, 13, 15, 20])


def test_doubled_cells_lie_between_those_they_came_from():
    axis = CellAxis(7, 10, 2.0)
    np.testing.assert_allclose(
        axis.doubled().middles(),
        np.sort(np.concatenate([axis.middles() - 0.025, axis.middles() + 0.025])),
    )
    assert even_places((3, 5)).doubled() == even_places((6, 10))
    # Bilinear doubling of their places gives the doubled ones' but at the ends.
    doubled = np.asarray(jax.image.resize(jnp.asarray(axis.middles()), (14,), "bilinear"))
    np.testing.assert_allclose(doubled[1:-1], axis.doubled().middles()[1:-1], rtol=1e-6)


@pytest.mark.parametrize("cells, others", [(4, 16), (14, 224), (20, 8), (7, 50), (9, 9)])
def test_even_cells_are_resized_as_jax_does_it(cells, others):
    expected = jax.image.resize(jnp.eye(cells), (others, cells), "bilinear")
    np.testing.assert_allclose(
        even_axis(cells).weights(even_axis(others)), expected, rtol=1e-5, atol=1e-6
    )


def test_values_on_pictures_and_on_other_grids():
    places = patch_places((20, 12), 8, 4)  # 4 × 2 cells
    assert places.grid == (4, 2) and places.even_grid == (5, 3)
    values = np.arange(8.0).reshape(4, 2)
    spread = places.spread(values, (20, 12))
    assert spread.shape == (20, 12)
    np.testing.assert_array_equal(spread[[0, 5, 6, 9, 10, 19], 0], [0, 0, 2, 2, 4, 6])
    np.testing.assert_array_equal(spread[0, [0, 5, 6, 11]], [0, 0, 1, 1])
    # Even cells' middles, 2, 6, 10 …, lie halfway between 4, 8, 12 and 16.
    np.testing.assert_allclose(places.to_even(values)[:, 0], [0, 1, 3, 5, 6])
    even = even_places((4, 2))
    assert even.to_even(values) is values
    found, where = even.resized(values, (8, 4))
    assert where == even_places((8, 4)) and found.shape == (8, 4)


def test_places_of_another_grid_are_refused():
    assert places_or_even(None, (2, 3)) == even_places((2, 3))
    with pytest.raises(ValueError, match=r"places: of a grid \(2, 3\), and features have \(3, 3\)"):
        places_or_even(even_places((2, 3)), (3, 3))
