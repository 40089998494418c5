"""Anchors of every level."""

import numpy as np
import pytest

from vit_jax_xfer.detection import anchors
from vit_jax_xfer.detection.anchor_grid import cell_centres


def test_anchors_are_the_references_in_their_order(golden_case):
    case = golden_case("dense/boxes/anchors")
    meta = case.meta
    found = anchors(*(meta[name] for name in ("grids", "strides", "sizes", "ratios")))
    for level, name in zip(found, ("p2", "p3", "p4", "p5", "p6"), strict=True):
        np.testing.assert_allclose(level, case.arrays[name], rtol=1e-5, atol=1e-5)


def test_levels_must_agree():
    with pytest.raises(ValueError, match="sizes: got 1 for 2 levels"):
        anchors([(2, 2), (1, 1)], [4, 8], [32], [1.0])
    with pytest.raises(ValueError, match="ratios: expected numbers above 0"):
        anchors([(2, 2)], [4], [32], [0.0])


def test_centres_of_cells_go_row_by_row():
    found = cell_centres([(2, 3), (1, 1)], [4, 16])
    np.testing.assert_array_equal(found, [[2, 2], [6, 2], [10, 2], [2, 6], [6, 6], [10, 6], [8, 8]])
