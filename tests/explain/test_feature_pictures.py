"""Principal components as colours, self-similarity, and sheets of both."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.explain.feature_pictures import (
    cell_at,
    colour_basis,
    pca_colours,
    self_similarity,
    unit_features,
)
from vit_jax_xfer.explain.feature_sheets import write_feature_sheet


def features(shape=(6, 8), channels=5, seed=0):
    return np.random.default_rng(seed).standard_normal((*shape, channels)).astype(np.float32)


def test_components_are_those_of_the_decomposition():
    maps = features() * [5, 3, 2, 1, 0.5]
    rows = unit_features(maps).reshape(-1, 5)
    expected = np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:3].T
    basis = colour_basis([maps])
    np.testing.assert_allclose(np.abs(basis.axes.T @ expected), np.eye(3), atol=1e-6)
    assert (basis.axes[np.abs(basis.axes).argmax(0), range(3)] > 0).all()
    colours = pca_colours(maps)
    assert colours.dtype == np.uint8 and colours.shape == (6, 8, 3)
    assert (colours.reshape(-1, 3).min(0) == 0).all() and (colours.max((0, 1)) == 255).all()
    # Lengths don't matter.
    scales = np.random.default_rng(1).uniform(1, 9, (6, 8, 1))
    np.testing.assert_array_equal(pca_colours(maps * scales), colours)


def test_two_kinds_of_cells_are_two_colours():
    maps = np.zeros((4, 4, 7))
    maps[:, :2, 1] = 1
    maps[:, 2:, 4] = 3
    colours = pca_colours(maps).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) == 2
    assert np.abs(np.diff(np.unique(colours[:, 0]).astype(int))) == 255
    assert (colours[:, 1:] == 128).all()  # one direction is all there is
    assert (pca_colours(np.ones((3, 3, 4))) == 128).all()
    assert (pca_colours(np.zeros((3, 3, 2))) == 128).all()
    assert pca_colours(features(channels=1)).shape == (6, 8, 3)


def test_a_common_basis_gives_common_colours():
    small = features()
    large = np.repeat(np.repeat(small, 2, 0), 2, 1)
    basis = colour_basis([small, large])
    np.testing.assert_array_equal(pca_colours(large, basis)[::2, ::2], pca_colours(small, basis))
    # A map counts the same whatever its size.
    other = features((20, 20), seed=1)
    first, second = colour_basis([small, other]), colour_basis([large, other])
    np.testing.assert_allclose(first.axes, second.axes, atol=1e-9)
    with pytest.raises(ValueError, match=r"maps: expected one or more of the same C, got \[4, 5\]"):
        colour_basis([small, features(channels=4)])


def test_self_similarity_is_the_cosine():
    maps = features((5, 4))
    found = self_similarity(maps)
    rows = maps / np.linalg.norm(maps, axis=-1, keepdims=True)
    np.testing.assert_allclose(found, rows @ rows[2, 2], atol=1e-6)
    assert found.argmax() == 2 * 4 + 2 and found[2, 2] == 1
    assert self_similarity(maps, (0.99, 0.0)).argmax() == 3
    assert cell_at((1, 1), (5, 4)) == (4, 3) and cell_at((0, 0.41), (5, 4)) == (2, 0)
    for point in ((1.1, 0), (0, -0.1), (float("nan"), 0)):
        with pytest.raises(ValueError, match="is outside the image"):
            self_similarity(maps, point)


def test_bad_features_are_named():
    bad = features()
    bad[0, 0, 0] = np.nan
    for call in (pca_colours, self_similarity):
        with pytest.raises(ValueError, match="features: some values are NaN"):
            call(bad)
        with pytest.raises(ValueError, match="features: expected .h, w, C."):
            call(bad[0])


def test_a_sheet(tmp_path):
    photo = np.full((100, 200, 3), (200, 10, 90), np.uint8)
    maps = [
        ("plain", features((3, 6))),
        ("LiFT ×1", features((6, 12))),
        ("other", features((2, 2), 3)),
    ]
    write_feature_sheet(tmp_path / "s.png", photo, maps, (0.25, 0.5), "heading")
    picture = np.asarray(Image.open(tmp_path / "s.png"))
    assert picture.shape[0] > 2 * 128 and picture.shape[1] > 4 * 256
    cross = np.argwhere((picture == (60, 255, 120)).all(-1)).mean(0)
    tile = np.argwhere((picture == (200, 10, 90)).all(-1)).min(0)
    np.testing.assert_allclose(cross - tile, (64, 64), atol=1)
