"""TokenCut: the published code's results, both ways to the eigenvector; CorLoc."""

import math
import tracemalloc

import jax
import numpy as np
import pytest

from vit_jax_xfer.evaluate.objects import token_graph as graphs
from vit_jax_xfer.evaluate.objects.object_discovery import box_in_pixels, box_iou, corloc, tokencut
from vit_jax_xfer.models.cell_places import patch_places


def scene(h, w, box, channels=24, noise=0.5, seed=0):
    """Features of a background and an object in `box` (y0, x0, y1, x1)."""
    rng = np.random.default_rng(seed)
    background, thing = rng.standard_normal((2, channels))
    features = np.broadcast_to(background, (h, w, channels)).copy()
    features[box[0] : box[2], box[1] : box[3]] = thing
    return (features + noise * rng.standard_normal(features.shape)).astype(np.float32)


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("case", [0, 1, 2])
@pytest.mark.parametrize("tau", [0.2, 0.3])
def test_published_results(golden_case, case, tau, dense):
    meta, arrays, _ = golden_case(f"tokencut/case{case}_tau{tau}")
    h, w = meta["grid"]
    features = arrays["features"].reshape(h, w, -1)
    found = tokencut(features, tau=meta["tau"], eps=meta["eps"], dense=dense)
    np.testing.assert_array_equal(found.mask, arrays["mask"])
    assert found.seed == divmod(int(arrays["seed"]), w)
    np.testing.assert_allclose(np.abs(found.eigenvector), arrays["eigvec_abs"], atol=1e-6)
    assert found.eigenvector[found.seed] > 0
    y0, x0, y1, x1 = box_in_pixels(found.box, (h, w), (h * meta["scale"], w * meta["scale"]))
    assert (x0, y0, x1, y1) == tuple(arrays["box_xyxy"])
    assert isinstance(found.mask, jax.Array) and found.mask.dtype == bool


def test_a_cosine_of_tau_itself_does_not_join():
    graph = graphs.token_graph(np.array([[1, 0], [0, 1], [3, 0]]), 0.0, 1e-5)
    joined = np.unpackbits(graph.bits, axis=1, count=3)
    np.testing.assert_array_equal(joined, [[1, 0, 1], [0, 1, 0], [1, 0, 1]])


def full_graph(features, tau, eps):
    unit = features.reshape(-1, features.shape[-1]).astype(np.float32)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    return np.where(unit @ unit.T > tau, 1.0, eps)


@pytest.mark.parametrize("shape", [(1, 2), (3, 5), (23, 23), (31, 37)])
def test_the_packed_graph_is_the_graph(shape):
    features = scene(*shape, (0, 0, 2, 1))
    expected = full_graph(features, 0.2, 1e-3)
    graph = graphs.token_graph(features.reshape(-1, features.shape[-1]), 0.2, 1e-3)
    n = len(expected)
    joined = np.unpackbits(graph.bits, axis=1, count=n).astype(bool)
    np.testing.assert_array_equal(joined, expected == 1)
    np.testing.assert_array_equal(joined, joined.T)
    np.testing.assert_allclose(graph.degrees, expected.sum(1), rtol=1e-12)
    vector = np.random.default_rng(1).standard_normal(n)
    np.testing.assert_allclose(graphs._adjacent(graph, vector), expected @ vector, rtol=1e-9)


# With little noise eps alone holds two parts together, in each of which the vector is constant.
@pytest.mark.parametrize("noise", [1.0, 0.05])
def test_both_ways_agree(noise):
    features = scene(26, 30, (8, 5, 20, 25), noise=noise)
    found = [tokencut(features, dense=dense) for dense in (True, False)]
    np.testing.assert_allclose(found[1].eigenvector, found[0].eigenvector, atol=1e-8)
    np.testing.assert_array_equal(found[1].mask, found[0].mask)
    assert found[0].box == found[1].box == (8, 5, 20, 25)
    assert found[0].seed == found[1].seed or noise < 1
    # The definition: (D - A) v = λ D v with vᵀ D v = 1, orthogonal to the constant.
    graph = full_graph(features, 0.2, 1e-5)
    degrees, v = graph.sum(1), np.asarray(found[1].eigenvector, np.float64).ravel()
    value = v @ (degrees * v - graph @ v)
    np.testing.assert_allclose(v @ (degrees * v), 1, rtol=1e-5)
    np.testing.assert_allclose(degrees @ v, 0, atol=1e-3)
    residual = degrees * v - graph @ v - value * degrees * v
    assert np.abs(residual).max() < 1e-4 * np.abs(degrees * v).max()


def test_three_parts_that_eps_holds_together():
    # Two eigenvalues of the order of eps, close to each other: the hard case for Lanczos.
    features = scene(26, 30, (2, 5, 14, 20), noise=0.01)
    features[17:24, 10:28] = np.random.default_rng(5).standard_normal(24)
    found = [tokencut(features, dense=dense) for dense in (True, False)]
    np.testing.assert_allclose(found[0].eigenvector, found[1].eigenvector, atol=1e-7)
    np.testing.assert_array_equal(found[0].mask, found[1].mask)


def test_many_tokens_take_bits_not_floats():
    assert graphs.DENSE_TOKENS < 56 * 64
    features = scene(56, 64, (10, 20, 40, 50), noise=1.0)
    tracemalloc.start()
    found = tokencut(features)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    n = 56 * 64
    assert peak < 2.5 * n**2  # of float64's 8 n², and the solver's copies of it
    y0, x0, y1, x1 = found.box
    assert (y0, x0, y1, x1) == (10, 20, 40, 50)


def test_only_the_part_with_the_seed_is_the_object():
    features = scene(20, 20, (2, 2, 10, 9), noise=0.1)
    features[14:18, 12:18] = features[3:7, 3:9]
    features[10, 9] = features[3, 3]  # touches the first one by a corner alone
    found = tokencut(features)
    assert found.box in {(2, 2, 10, 9), (14, 12, 18, 18)}
    expected = np.zeros((20, 20), bool)
    expected[found.box[0] : found.box[2], found.box[1] : found.box[3]] = True
    np.testing.assert_array_equal(found.mask, expected)


def test_degenerate_features_have_a_result():
    for features in (np.ones((3, 4, 2)), np.zeros((3, 4, 2)), np.eye(12).reshape(3, 4, 12)):
        for dense in (True, False):
            found = tokencut(features, dense=dense)
            assert np.isfinite(found.eigenvector).all() and found.mask.any()


def test_boxes_end_with_the_image():
    assert box_in_pixels((1, 2, 3, 5), (3, 5), (30, 100)) == (10, 40, 30, 100)
    assert box_in_pixels((0, 0, 3, 5), (3, 5), (31, 99)) == (0, 0, 31, 99)


def test_box_iou():
    boxes = np.array([[0, 0, 10, 10], [5, 5, 15, 15], [10, 0, 20, 10], [3, 3, 3, 3]], float)
    np.testing.assert_allclose(box_iou(boxes[0], boxes), [1, 25 / 175, 0, 0])
    np.testing.assert_array_equal(box_iou(boxes[3], boxes), np.zeros(4))


def test_corloc():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]]
    truths = [
        [[20, 20, 30, 30], [0, 0, 10, 20]],  # exactly one half
        [[0, 0, 10, 20.1]],
        np.zeros((0, 4)),
        [],
    ]
    found = corloc(boxes, truths)
    assert found.rate == 0.5
    assert found.correct.tolist() == [True, False, False, False]
    assert found.skipped.tolist() == [False, False, True, True]
    assert corloc(boxes, truths, iou=0.51).rate == 0
    nothing = corloc(boxes[2:], truths[2:])
    assert math.isnan(nothing.rate) and nothing.skipped.sum() == 2
    assert math.isnan(corloc([], []).rate)


def test_bad_input_is_named():
    features = scene(4, 4, (0, 0, 2, 2))
    with pytest.raises(ValueError, match="features: expected at least two cells .* got 1 × 1"):
        tokencut(features[:1, :1])
    with pytest.raises(ValueError, match="features: expected .h, w, C., none of them 0"):
        tokencut(features[..., :0])
    with pytest.raises(ValueError, match="eps: expected more than 0"):
        tokencut(features, eps=0)
    features[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match="^features: 1 of 384 values are NaN or infinite"):
        tokencut(features)
    with pytest.raises(ValueError, match=r"ground_truth_boxes\[1\]: expected finite"):
        corloc(np.zeros((2, 4)), [[[0, 0, 1, 1]], [[0, 5, 1, 4]]])
    with pytest.raises(ValueError, match="boxes: expected finite"):
        corloc([[0, 0, np.nan, 1]], [[]])
    with pytest.raises(ValueError, match="boxes: expected .N, 4., got shape .1, 3."):
        corloc([[0, 0, 1]], [[]])
    with pytest.raises(ValueError, match="ground_truth_boxes: got 1, boxes has 2"):
        corloc(np.zeros((2, 4)), [[]])


def test_the_eigenvalue_is_the_cuts():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((5, 6, 4)).astype(np.float32)
    both = [tokencut(features, 0.2, 0.01, dense=dense) for dense in (True, False)]
    cosines = features.reshape(30, 4) / np.linalg.norm(features.reshape(30, 4), axis=1)[:, None]
    graph = np.where(cosines @ cosines.T > 0.2, 1.0, 0.01)
    laplacian = np.eye(30) - graph / graph.sum(1, keepdims=True)
    expected = np.sort(np.linalg.eigvals(laplacian).real)[1]
    np.testing.assert_allclose([one.eigenvalue for one in both], expected, rtol=1e-6)


def test_boxes_of_overlapping_patches_lie_where_they_do():
    # Patches of 8 every 2 pixels of 20: cell i's middle is 4 + 2 i, the outermost reach the border.
    places = patch_places((20, 20), 8, 2)
    assert box_in_pixels((1, 2, 3, 4), (7, 7), (20, 20), places) == (5, 7, 9, 11)
    assert box_in_pixels((0, 0, 7, 7), (7, 7), (40, 20), places) == (0, 0, 40, 20)
