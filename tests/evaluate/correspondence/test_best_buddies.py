"""Cells that are each other's nearest, and which of them are kept."""

import numpy as np
import pytest

from vit_jax_xfer.evaluate.correspondence.best_buddies import best_buddies, spread_out


def test_a_shuffled_image_is_found_again():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((6, 7, 8))
    order = rng.permutation(42)
    target = 3 * source.reshape(42, 8)[order].reshape(7, 6, 8)
    found = best_buddies(source, target)
    assert len(found.cosine) == 42
    np.testing.assert_allclose(found.cosine, 1, rtol=1e-6)
    here = found.source @ [7, 1]
    np.testing.assert_array_equal(order[found.target @ [6, 1]], here)
    mask = np.zeros((6, 7), bool)
    mask[2:4] = True
    inside = best_buddies(source, target, mask)
    assert set(map(tuple, inside.source)) == set(map(tuple, np.argwhere(mask)))
    assert not len(best_buddies(source, target, mask & False).cosine)
    with pytest.raises(ValueError, match="target: .* NaN or infinite"):
        best_buddies(source, target * np.nan)


def test_one_sided_neighbours_are_no_pair():
    source = np.array([[[1.0, 0.0], [0.9, 0.1]]])  # both are nearest to the target's only cell
    found = best_buddies(source, np.array([[[1.0, 0.0]]]))
    assert found.source.tolist() == [[0, 0]] and found.target.tolist() == [[0, 0]]


def test_pairs_that_are_kept_lie_apart():
    features = np.random.default_rng(0).standard_normal((10, 10, 16))
    found = best_buddies(features, features)
    kept = spread_out(found, ((10, 10), (10, 10)), 4)
    apart = np.abs(kept.source[:, None] - kept.source[None]).max(-1)
    assert len(kept.cosine) == 4 and apart[~np.eye(4, dtype=bool)].min() >= 3
    assert len(spread_out(found, ((10, 10), (10, 10)), 1000).cosine) == 100
