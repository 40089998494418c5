"""Heads of two networks: divergence and the four ways of matching, by reference and by hand."""

import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.analysis.head_matching import MATCHINGS


def test_reference_values(golden_case):
    _, arrays, _ = golden_case("explain/jsd")
    near = {"rtol": 1e-4, "atol": 1e-6}
    for start in ("", "hard_"):
        p, q = arrays[f"{start}p"], arrays[f"{start}q"]
        cost = vjx.analysis.head_divergence(p, q)
        np.testing.assert_allclose(cost, arrays[f"{start}cost"], **near)
        np.testing.assert_array_equal(vjx.analysis.match_heads(cost), arrays[f"{start}assignment"])
        each = vjx.analysis.image_divergence(p, q)
        found = {how: vjx.analysis.matched_divergence(each, how) for how in MATCHINGS}
        assert found["hungarian"].divergence == pytest.approx(arrays[f"{start}matched"], rel=1e-4)
        assert found["identity"].divergence == pytest.approx(arrays[f"{start}unmatched"], rel=1e-4)
        assert found["nearest"].divergence == pytest.approx(arrays[f"{start}best"], rel=1e-4)
    p, q = arrays["p"], arrays["q"]
    each = vjx.analysis.image_divergence(p, q)
    np.testing.assert_allclose(each, arrays["per_image_cost"], **near)
    found = vjx.analysis.matched_divergence(each, "per_image")
    np.testing.assert_array_equal(found.heads, arrays["per_image_assignment"])
    assert found.divergence == pytest.approx(arrays["per_image_matched"].mean(), rel=1e-4)
    cost = vjx.analysis.head_divergence(p[:, :, :1], q[:, :, :1])
    np.testing.assert_allclose(cost, arrays["cls_cost"], **near)


def test_permuted_heads_are_found_and_disjoint_maps_are_furthest():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(5, 0.5), size=(2, 3, 5)).astype(np.float32)
    order = np.array([2, 0, 1])
    each = vjx.analysis.image_divergence(p, p[:, order])
    for how in ("hungarian", "per_image", "nearest"):
        found = vjx.analysis.matched_divergence(each, how)
        assert found.divergence == pytest.approx(0, abs=1e-6)
        np.testing.assert_array_equal(np.broadcast_to(found.heads, (2, 3))[0], order.argsort())
    assert vjx.analysis.matched_divergence(each, "identity").divergence > 0.1
    left, right = (
        np.eye(4, dtype=np.float32)[None, None],
        np.eye(4, dtype=np.float32)[None, None, ::-1],
    )
    assert float(vjx.analysis.head_divergence(left, right)[0, 0]) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: vjx.analysis.match_heads(np.ones((3, 2))), "cost: expected"),
        (lambda x: vjx.analysis.match_heads(np.full((2, 2), np.nan)), "cost: some values are NaN"),
        (lambda x: vjx.analysis.matched_divergence(x, "best"), "how: 'best' is none of identity"),
        (lambda x: vjx.analysis.matched_divergence(x, "identity"), "cost: got 2, the second"),
        (lambda x: vjx.analysis.head_divergence(np.ones((1, 2, 3, 3)), np.ones((2, 2, 3, 3))), "q"),
    ],
)
def test_what_cannot_be_matched_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((1, 2, 3)))
