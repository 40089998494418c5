"""Principal components as colours, self-similarity, and sheets of both."""

import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.explain.feature_pictures import (
    cell_at,
    colour_basis,
    foreground_of,
    pca_colours,
    self_similarity,
    unit_features,
)
from vit_jax_xfer.explain.feature_sheets import write_feature_sheet
from vit_jax_xfer.features.drawn_features import DrawnFeatures, PictureChoice, said_of_lengths
from vit_jax_xfer.models.cell_places import even_places


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


def two_scenes():
    """A thing of two parts on two grounds; where it is."""
    rng = np.random.default_rng(0)
    ground, left, right = np.eye(3) + 0.2
    maps, masks = [], []
    for shift in (0, 2):
        mask = np.zeros((10, 12), bool)
        mask[2:8, 2 + shift : 8 + shift] = True
        features = np.where(mask[..., None], left, ground)
        features[2:8, 5 + shift : 8 + shift] = right
        maps.append(features + 0.02 * rng.standard_normal(features.shape))
        masks.append(mask)
    return maps, masks


def test_the_foreground_is_what_keeps_off_the_borders():
    maps, masks = two_scenes()
    front = foreground_of(maps, 0.5)
    for features, mask in zip(maps, masks, strict=True):
        np.testing.assert_array_equal(front.mask(features), mask)
        np.testing.assert_array_equal(front.mask(3 * features), mask)
    basis = colour_basis(maps, masks)
    # Of the thing alone: the first component parts left from right, on both the same.
    colours = [pca_colours(features, basis)[..., 0] for features in maps]
    assert abs(int(colours[0][4, 3]) - int(colours[0][4, 6])) > 200
    assert abs(int(colours[0][4, 3]) - int(colours[1][4, 5])) < 40
    with pytest.raises(ValueError, match="foreground: got 1, expected a share from 0 to below 1"):
        foreground_of(maps, 1.0)
    with pytest.raises(ValueError, match="masks: no cell is left"):
        colour_basis(maps, [mask & False for mask in masks])


def test_joint_pictures_wait_for_the_last(tmp_path):
    maps, masks = two_scenes()
    photo = np.full((100, 120, 3), 200, np.uint8)
    with DrawnFeatures(PictureChoice(joint=True, foreground=0.5, norms=True)) as drawn:
        for number, features in enumerate(maps):
            places = even_places(features.shape[:2])
            drawn.add(tmp_path / f"{number}.png", photo, features, places, "name")
        assert not list(tmp_path.iterdir())
        drawn.finish()
    pictures = [np.asarray(Image.open(tmp_path / f"{n}.png")).astype(int) for n in (0, 1)]
    left, top = 8 + 384 + 8, pictures[0].shape[0] - 320 - 8 - 22  # of the second picture, about
    cells = [(4, 3), (4, 5)]
    at = [
        picture[top + round(32 * (row + 0.5)), left + round(32 * (column + 0.5))]
        for picture, (row, column) in zip(pictures, cells, strict=True)
    ]
    assert np.abs(at[0] - at[1]).max() < 60 and at[0].sum() > 0
    assert (pictures[0][top + 16, left + 16] == 0).all()  # the background
    lengths = np.ones((4, 4))
    lengths[0, 0] = 9
    assert said_of_lengths(lengths) == "1 to 9, 1 above 3 medians"
