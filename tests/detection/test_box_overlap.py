"""Overlaps of boxes: the reference's figures, and what is no box."""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx

NAMES = ("iou", "giou", "diou", "ciou")
BAD = np.array(
    [[np.nan, 0, 4, 4], [8, 8, 2, 2], [3, 3, 3, 3], [-np.inf, 0, 4, 4], [0, 0, 0, 0]], np.float32
)


def test_every_overlap_is_the_references(golden_case):
    want = golden_case("dense/boxes/iou").arrays

    @jax.jit
    def overlaps(a, b):
        every = {name: getattr(vjx.detection, name)(a, b) for name in NAMES}
        pairs = {name: getattr(vjx.detection, name)(a[:9], b, paired=True) for name in NAMES}
        return every, pairs

    every, pairs = overlaps(want["a"], want["b"])
    for name in ("iou", "giou"):
        np.testing.assert_allclose(every[name], want[name], rtol=1e-5, atol=1e-6)
    for name in ("giou", "diou", "ciou"):
        np.testing.assert_allclose(pairs[name], want[f"{name}_pairs"], rtol=1e-5, atol=1e-6)
    for name in NAMES:
        np.testing.assert_allclose(np.diagonal(every[name]), pairs[name], rtol=1e-5, atol=1e-6)
        assert pairs[name].dtype == np.float32


def test_what_is_no_box_overlaps_nothing_and_has_finite_gradients():
    good = np.array([[0, 0, 4, 4], [2, 2, 3, 9]], np.float32)

    @jax.jit
    def found(a):
        def total(a):
            return sum(getattr(vjx.detection, name)(a, good).sum() for name in NAMES)

        return vjx.detection.iou(a, good), vjx.detection.iou(a, a), jax.value_and_grad(total)(a)

    with_good, with_itself, total = found(BAD)
    assert not with_good.any()
    assert not with_itself.any()
    assert all(np.isfinite(x).all() for x in total)
    assert not vjx.detection.area(BAD).any()
    assert vjx.detection.iou(np.zeros((0, 4)), good).shape == (0, 2)


def test_other_shapes_are_refused_by_name():
    with pytest.raises(ValueError, match=r"b: expected boxes \(…, 4\)"):
        vjx.detection.iou(np.zeros((2, 4)), np.zeros((2, 5)))
    with pytest.raises(ValueError, match="b: got .*pairs are equally many"):
        vjx.detection.giou(np.zeros((2, 4)), np.zeros((3, 4)), paired=True)
    with pytest.raises(ValueError, match=r"a: expected boxes \(…, N, 4\)"):
        vjx.detection.iou(np.zeros(4), np.zeros((3, 4)))
