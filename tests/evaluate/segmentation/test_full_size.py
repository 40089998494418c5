"""Classes at a photograph's size: logits are interpolated, then compared."""

import jax
import numpy as np
import pytest

from vit_jax_xfer.evaluate.segmentation import full_size
from vit_jax_xfer.evaluate.segmentation.full_size import classes_at


@pytest.mark.parametrize(("size", "block"), [((23, 31), 2**24), ((23, 31), 40), ((7, 9), 2**24)])
def test_the_same_as_bilinear_resizing(size, block, monkeypatch):
    monkeypatch.setattr(full_size, "_BLOCK", block)
    logits = np.random.default_rng(0).normal(size=(7, 9, 3)).astype(np.float32)
    expected = jax.image.resize(logits, (*size, 3), "linear", antialias=False)
    found = classes_at(logits, *size)
    assert found.dtype == np.int32
    # But for ties within rounding.
    assert (found != np.asarray(expected).argmax(-1)).sum() <= 1


def test_smaller_than_the_logits():
    logits = np.zeros((8, 8, 2), np.float32)
    logits[:4, :, 0] = logits[4:, :, 1] = 1
    np.testing.assert_array_equal(classes_at(logits, 4, 2), [[0, 0], [0, 0], [1, 1], [1, 1]])
