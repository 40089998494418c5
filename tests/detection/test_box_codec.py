"""Boxes relative to boxes."""

import numpy as np
import pytest

from vit_jax_xfer.detection import clip, decode, encode


@pytest.mark.parametrize("name", ["codec_1_1", "codec_10_5"])
def test_deltas_are_the_references_and_come_back(golden_case, name):
    case = golden_case(f"dense/boxes/{name}")
    want, weights = case.arrays, case.meta["weights"]
    deltas = encode(want["src"], want["tgt"], weights)
    np.testing.assert_allclose(deltas, want["deltas"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        decode(want["src"], want["noisy"], weights), want["decoded"], rtol=1e-5, atol=1e-3
    )
    np.testing.assert_allclose(
        decode(want["src"], deltas, weights), want["tgt"], rtol=1e-5, atol=1e-3
    )


def test_deltas_of_boxes_without_area_are_finite():
    flat = np.array([[3, 3, 3, 9], [0, 0, 0, 0]], np.float32)
    box = np.array([[0, 0, 8, 8]] * 2, np.float32)
    assert np.isfinite(encode(flat, box)).all()
    assert np.isfinite(encode(box, flat)).all()
    assert np.isfinite(decode(box, np.full((2, 4), 1e4))).all()


def test_clipping_goes_by_each_images_own_size():
    boxes = np.array([[[-3, -2, 50, 60]]] * 2, np.float32)
    found = clip(boxes, np.array([[20, 30], [10, 15]]))
    np.testing.assert_array_equal(found[:, 0], [[0, 0, 30, 20], [0, 0, 15, 10]])
