"""Which box belongs to which object, and which are drawn for a loss."""

import jax
import numpy as np
import pytest

from vit_jax_xfer.detection import hungarian, iou, match, sample


def test_matches_are_the_references(golden_case):
    want = golden_case("dense/boxes/matcher").arrays
    overlaps = iou(want["gt"], want["proposals"])
    np.testing.assert_allclose(overlaps, want["iou"], rtol=1e-5, atol=1e-6)
    for name, arguments in (
        ("label", (0.3, 0.7)),
        ("label_low_quality", (0.3, 0.7, True)),
        ("label_0.5", (0.5, 0.5)),
    ):
        indices, labels = jax.jit(match, static_argnums=(1, 2, 3))(overlaps, *arguments)
        np.testing.assert_array_equal(indices, want["match"])
        np.testing.assert_array_equal(labels, want[name])


def test_no_objects_padding_and_nan_match_nothing():
    indices, labels = match(np.zeros((0, 5)), 0.3, 0.7, True)
    assert (labels == 0).all()
    assert indices.shape == (5,)
    overlaps = np.array([[-1.0] * 3, [0.0] * 3, [np.nan, 0.5, 0.2]])
    indices, labels = match(overlaps, 0.3, 0.7, True)
    np.testing.assert_array_equal(labels, [0, 1, 0])  # the best of the one that overlaps
    assert indices[1] == 2
    with pytest.raises(ValueError, match="low: 0.7 is above high"):
        match(overlaps, 0.7, 0.3)


def test_hungarian_is_the_references_under_jit(golden_case):
    want = golden_case("dense/boxes/hungarian").arrays
    cost = want["cost"].copy()
    valid = np.arange(cost.shape[-1]) < want["num_targets"][:, None]
    found = jax.jit(hungarian)(cost, valid)
    np.testing.assert_array_equal(found, want["query_for_target"])
    cost[0, want["query_for_target"][0, 0], 0] = np.nan  # must not be chosen now, nor spoil others
    again = np.asarray(jax.jit(hungarian)(cost, valid))
    assert again[0, 0] != found[0, 0]
    assert len(set(again[0].tolist())) == valid.shape[1]
    with pytest.raises(ValueError, match="2 queries are fewer than 3 objects"):
        hungarian(np.zeros((2, 3)))


def test_a_draw_has_so_many_positives_and_no_more():
    labels = np.array([1] * 6 + [0] * 9 + [-1] * 5)
    draw = jax.jit(sample, static_argnums=(2, 3))
    counts = np.zeros(len(labels))
    for seed in range(200):
        indices, valid = draw(jax.random.key(seed), labels, 8, 3)
        assert valid.all()
        assert len(set(indices.tolist())) == 8
        np.testing.assert_array_equal(labels[indices], [1] * 3 + [0] * 5)  # objects come first
        counts[indices] += 1
    np.testing.assert_allclose(counts[:6], 100, atol=35)  # as often one as the other
    np.testing.assert_allclose(counts[6:15], 200 * 5 / 9, atol=35)
    indices, valid = draw(jax.random.key(0), np.array([1, 0, -1, 0]), 8, 3)
    assert sorted(indices[valid].tolist()) == [0, 1, 3]
    _, valid = draw(jax.random.key(0), np.full(4, -1), 4, 2)
    assert not valid.any()
