"""Networks out of what training scripts save, of the right family."""

import numpy as np
import pytest

from tests.outputs import assert_same_network, prefixed, renamed
from vit_jax_xfer.pretrained.file_to_model import load_on_host


def plus_one(state):
    return {name: x + 1 for name, x in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: prefixed("module.", state),
        lambda state: {"model": prefixed("module.", state), "epoch": 3},
        lambda state: {"state_dict": prefixed("_orig_mod.", state), "arch": "vit_small"},
        lambda state: {"model": {}, "model_ema": state, "optimizer": {"state": {}}},
        lambda state: {"teacher": prefixed("backbone.", state), "student": plus_one(state)},
        lambda state: {"model": {"teacher": {"module": prefixed("model.", state)}}},
    ],
)
def test_wrappers_and_prefixes(golden, wrap):
    state = golden("dino/native")
    assert_same_network(wrap(state), state, "dino")


def test_moco_v3(golden):
    state = golden("dino/native")
    projector = {"head.0.weight": np.ones((64, 48)), "head.1.running_mean": np.ones(64)}
    content = {
        **prefixed("module.base_encoder.", {**state, **projector}),
        **prefixed("module.momentum_encoder.", {**plus_one(state), **projector}),
        **prefixed("module.predictor.", {"0.weight": np.ones((64, 64)), "1.bias": np.ones(64)}),
    }
    file = {"state_dict": content, "arch": "vit_base", "scaler": {}}
    resize = {"position_resize": "bicubic_antialias"}
    assert_same_network(file, state, "moco_v3", **resize)
    assert_same_network(file, plus_one(state), "moco_v3", "momentum_encoder", **resize)


def test_dino_and_ibot_as_they_train(golden):
    state = golden("dino/native")
    head = {"head.mlp.0.weight": np.ones((64, 48)), "head.last_layer.weight_g": np.ones((32, 1))}
    student = {**prefixed("backbone.", plus_one(state)), **head}
    file = {
        "student": prefixed("module.", student),
        "teacher": {**prefixed("backbone.", state), **head},
        "dino_loss": {"center": np.zeros((1, 32))},
        "epoch": 100,
    }
    assert_same_network(file, state, "dino")
    assert_same_network(file, plus_one(state), "dino", "student")
    file["student"]["module.backbone.masked_embed"] = np.arange(48.0)[None]
    assert_same_network(file, state, "dino")  # nothing in the teacher says iBOT
    _, variables, found = load_on_host(file, weights="student", num_heads=3)
    assert found.family.name == "ibot"
    np.testing.assert_array_equal(variables["params"]["mask_token"][0, 0], np.arange(48))


@pytest.mark.parametrize("kind", ["layerscale", "registers", "swiglu"])
def test_dinov2_in_chunks(golden, kind):
    state = golden(f"dinov2/{kind}_native")
    chunks = renamed(
        state, (r"^blocks\.([01])\.", r"blocks.0.\1."), (r"^blocks\.2\.", "blocks.1.2.")
    )
    head = {"teacher.dino_head.last_layer.weight_v": np.ones((32, 16))}
    file = {"model": {**prefixed("teacher.backbone.", chunks), **head}, "iteration": 10}
    assert_same_network(file, state, "dinov2")
