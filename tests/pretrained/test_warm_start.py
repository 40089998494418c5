"""One model's weights as another's start: what comes across, starts afresh, is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.lifting.convex_lift import ConvexLiFT
from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.warm_start import start_from

SMALL = {"image_size": 8, "patch_size": 4, "width": 16, "depth": 2, "num_heads": 2}
VIT = VisionTransformer(**SMALL, num_classes=3)
MAE = MaskedAutoencoder(VisionTransformer(**SMALL, num_classes=0, pool="none"), 16, 1, 2)
FILTER = FilterViT(stages=(Stage("full", 8, 2),), image_size=15, stem_width=8, num_classes=3)
LIFT, CONVEX = LiFT(8, 4), ConvexLiFT(8, 4, radius=1, key_width=4, hidden=4)


def drawn(model):
    """Variables of a network, each leaf of its own numbers."""
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    numbers = np.random.default_rng(0)
    return jax.tree.map(lambda x: numbers.normal(size=x.shape).astype(np.float32), shapes)


def assert_same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


@pytest.mark.parametrize("model", [VIT, MAE, FILTER, LIFT, CONVEX], ids=lambda x: x.kind)
def test_a_network_starts_from_its_own_kind_whole(model):
    variables = drawn(model)
    assert_same(start_from(model, variables, model), variables)
    narrow = model.with_fields(dtype=jnp.bfloat16)  # runs otherwise, has the same variables
    assert_same(start_from(model, variables, narrow), variables)


def test_blocks_are_stacked_and_positions_fitted():
    variables = drawn(VIT)
    stacked = start_from(VIT, variables, VIT.clone(scan=True))
    assert_same(start_from(VIT.clone(scan=True), stacked, VIT), variables)
    larger = start_from(VIT, variables, VIT.clone(image_size=16))["params"]
    assert larger.pop("pos_embed").shape == (1, 17, 16)
    del variables["params"]["pos_embed"]
    assert_same(larger, variables["params"])


@pytest.mark.parametrize(
    ("model", "fields", "fresh"),
    [
        (VIT, {"num_classes": 5}, {"head"}),
        (VIT, {"pool": "avg"}, {"head_norm"}),
        (FILTER, {"num_classes": 5}, {"head"}),
        (FILTER, {"head_width": 16}, {"head", "head_hidden"}),
        (FILTER, {"choose": "random", "image_size": 21}, set()),
    ],
)
def test_what_other_fields_ask_for_starts_afresh(model, fields, fresh):
    variables, wanted = drawn(model), model.clone(**fields)
    found = start_from(model, variables, wanted)
    names = jax.eval_shape(wanted.init_variables, jax.random.key(0))["params"].keys()
    assert names - found["params"].keys() == fresh
    kept = {name: variables["params"][name] for name in found["params"]}
    assert_same(found, {**variables, "params": kept})


def test_an_encoder_starts_a_classifier():
    variables = drawn(MAE)
    found = start_from(MAE, variables, VIT)["params"]
    assert_same(found, variables["params"]["encoder"])


@pytest.mark.parametrize(
    ("source", "model", "message"),
    [
        (FILTER, VIT, "the weights of a FilterViT; a VisionTransformer starts only from .* own"),
        (VIT, MAE, "the weights of a VisionTransformer; a MaskedAutoencoder starts only"),
        (LIFT, CONVEX, "the weights of a LiFT; a ConvexLiFT starts only"),
        (LIFT, LIFT.clone(width=12), r"merge_1 has shapes \(4,\); the model wants \(6,\)"),
        (FILTER, FILTER.clone(stages=(Stage("full", 16, 2),)), "stage_0 has .* wants .*16"),
        (FILTER, FILTER.clone(stages=()), "the model has no place for stage_0"),
        (FILTER.clone(stages=()), FILTER, "stage_0 is not there; the model wants"),
        (VIT, VIT.clone(position="sincos"), "position: the source has learned positions"),
        (VIT.clone(class_position=False), VIT, "class_token, class_position: .* of 0 tokens"),
    ],
)
def test_what_does_not_come_across_is_named(source, model, message):
    with pytest.raises(ValueError, match=message) as caught:
        start_from(source, drawn(source), model)
    assert "\n" not in str(caught.value)


def test_statistics_may_not_be_missing():
    variables = drawn(LIFT)
    with pytest.raises(ValueError, match="image_1 is not there"):
        start_from(LIFT, {"params": variables["params"]}, LIFT)
    with pytest.raises(ValueError, match="the model has no place for batch_stats"):
        start_from(VIT, {**drawn(VIT), "batch_stats": {}}, VIT)
