"""Losses of scores and boxes."""

import jax
import numpy as np

from vit_jax_xfer import detection


def test_each_is_the_references(golden_case):
    want = golden_case("dense/boxes/losses").arrays
    logits, onehot, quality = (want[name] for name in ("logits", "onehot", "quality"))
    found = {
        "bce": detection.binary_cross_entropy(logits, onehot),
        "focal": detection.focal_loss(logits, onehot),
        "vfl": detection.varifocal_loss(logits, quality, onehot),
        "smooth_l1_beta_0.11": detection.smooth_l1(logits - onehot, 1 / 9),
    }
    for name, loss in found.items():
        np.testing.assert_allclose(loss, want[name], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(detection.smooth_l1(logits), np.abs(logits), rtol=1e-6)


def test_quality_focal_loss_is_its_formula_and_none_is_nan_far_out():
    logits, quality = np.array([-2.0, 0.3, 4.0]), np.array([0.0, 0.7, 1.0])
    p = 1 / (1 + np.exp(-logits))
    entropy = -quality * np.log(p) - (1 - quality) * np.log(1 - p)
    found = detection.quality_focal_loss(logits, quality)
    np.testing.assert_allclose(found, np.abs(p - quality) ** 2 * entropy, rtol=1e-5)
    far = np.array([-500.0, 500.0])
    for loss in (detection.focal_loss, detection.quality_focal_loss):
        value, slope = jax.value_and_grad(lambda x, f=loss: f(x, np.array([1.0, 0.0])).sum())(far)
        assert np.isfinite(value)
        assert np.isfinite(slope).all()
