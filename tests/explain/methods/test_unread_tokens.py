"""What the head never reads is left out of the last block, and nothing else changes."""

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.native import draw
from vit_jax_xfer.explain.methods import unread_tokens, watched_network

SIZES = {"image_size": 16, "patch_size": 4, "width": 16, "depth": 2, "num_heads": 2}
FAMILIES = {
    "plain": {},
    "two_heads": {"distillation_token": True, "layer_scale": 0.2},
    "registers": {"registers": 2, "mlp": "swiglu", "qk_norm": True, "attention_norm": True},
    "rematerialised": {"remat": "full", "relative_bias": "block"},
}
METHODS = ("generic_attention", "gradient_rollout", "attention_gradcam", "rollout")
IMAGES = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)


def build(**fields):
    model = vjx.VisionTransformer(**{**SIZES, "num_classes": 3, **fields})
    return model, draw(model, 0)


def explained(model, variables):
    """The maps of all methods, and the work that the program takes."""

    def run(images):
        return [vjx.explain.attribute(model, variables, images, one).map for one in METHODS]

    program = jax.jit(run).lower(IMAGES).compile()
    return [np.asarray(one) for one in program(IMAGES)], program.cost_analysis()["flops"]


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_are_those_of_the_whole_network_for_less_work(family, monkeypatch):
    model, variables = build(**FAMILIES[family])
    maps, work = explained(model, variables)
    monkeypatch.setattr(watched_network, "leave_out_unread", lambda model: [])
    alike = model.clone(class_names=("a", "b", "c"))  # another key of jit's cache
    whole, all_work = explained(alike, variables)
    for method, one, other in zip(METHODS, maps, whole, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max(), err_msg=method)
    assert work < 0.9 * all_work


@pytest.mark.parametrize(
    "fields",
    [
        {"pool": "avg"},
        {"pool": "cls_avg"},
        {"pool": "map"},
        {"scan": True},
        {"class_token": False, "pool": "max_patches"},
    ],
)
def test_nothing_is_left_out_where_patches_are_read(fields):
    assert not unread_tokens.leave_out_unread(build(**fields)[0])
