"""The heads of Mask R-CNN against the reference's numbers, and against plain numpy."""

import jax
import numpy as np
import pytest

from tests.models.dense.torch_names import convolution, doubling, linear, norm
from vit_jax_xfer.models.dense.box_head import BoxHead, BoxPredictor
from vit_jax_xfer.models.dense.mask_head import MaskHead, MaskPredictor
from vit_jax_xfer.models.dense.region_proposals import ProposalHead


def convolutions(state):
    """Parameters of RegionConvolutions."""
    numbers = range(1, 5)
    kernels = {f"conv_{i}": convolution(state, f"conv{i}") for i in numbers}
    return kernels | {f"norm_{i}": norm(state, f"norm{i}") for i in numbers}


def by_pixels(state, name, channels, side=7):
    """A linear layer on (C, h, w), for (h, w, C)."""
    found = linear(state, name)
    kernel = found["kernel"].reshape(channels, side, side, -1).transpose(1, 2, 0, 3)
    return {**found, "kernel": kernel.reshape(-1, kernel.shape[-1])}


@pytest.fixture(autouse=True)
def exact():
    with jax.default_matmul_precision("highest"):
        yield


def test_proposals_are_the_references(golden_case):
    case = golden_case("dense/heads/rpn_head")
    state = case.state
    params = {f"conv_{i}": convolution(state, f"conv{i}") for i in range(2)}
    params["objectness"] = linear(state, "objectness_logits")
    params["deltas"] = linear(state, "anchor_deltas")
    (logits,), (deltas,) = jax.jit(ProposalHead(32).apply)(
        {"params": params}, [case.arrays["input"]]
    )
    np.testing.assert_allclose(logits.reshape(2, 9, 6, 3), case.arrays["out0"], atol=2e-5)
    np.testing.assert_allclose(deltas.reshape(2, 9, 6, 12), case.arrays["out1"], atol=2e-5)


def test_classes_and_boxes_are_the_references(golden_case):
    case = golden_case("dense/heads/box_head")
    state = case.state
    head = {"convolutions": convolutions(state), "hidden": by_pixels(state, "fc1", 32)}
    predictor = {"classes": linear(state, "cls_score"), "deltas": linear(state, "bbox_pred")}

    @jax.jit
    def run(x):
        features = BoxHead(32, 64).apply({"params": head}, x)
        return BoxPredictor(5).apply({"params": predictor}, features)

    logits, deltas = run(case.arrays["input"])
    np.testing.assert_allclose(logits, case.arrays["out0"], atol=2e-5)
    np.testing.assert_allclose(deltas.reshape(2, 20), case.arrays["out1"], atol=2e-5)


def test_masks_are_the_references(golden_case):
    case = golden_case("dense/heads/mask_head")
    state = case.state
    head = {"convolutions": convolutions(state), "up": doubling(state, "deconv")}
    predictor = {"classes": linear(state, "predictor")}

    @jax.jit
    def run(x):
        features = MaskHead(32).apply({"params": head}, x)
        return MaskPredictor(5).apply({"params": predictor}, features)

    np.testing.assert_allclose(run(case.arrays["input"]), case.arrays["out0"], atol=2e-5)
