"""One model's weights as another's start: what comes across, starts afresh, is refused."""

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.lifting.convex_lift import ConvexLiFT
from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.registry import VITDET, create_model
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
        (
            VIT.clone(activation="quick_gelu"),
            VIT,
            "activation: .* set model.activation='quick_gelu'",
        ),
        (VIT.clone(mlp="geglu"), VIT.clone(mlp="swiglu"), "mlp: .*'geglu', and .*'swiglu'"),
        (VIT.clone(qkv_bias="masked_key"), VIT, "qkv_bias: .* 'masked_key', and .* 'full'"),
        (VIT.clone(rotary="eva02"), VIT.clone(rotary="dinov3"), "rotary: .* 'eva02', and the"),
        (
            MAE.clone(encoder=MAE.encoder.clone(activation="gelu_tanh")),
            VIT,
            "activation: .* 'gelu_tanh', and the model has 'gelu'",
        ),
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


# One of each family of the registry, smaller than it is.
FAMILIES = {
    "vit_small_patch14_dinov2": {},
    "vit_small_patch14_reg4_dinov2": {},
    "vit_giant_patch14_dinov2": {},
    "vit_small_patch16_dinov3": {},
    "vit_base_patch16_clip": {},
    "vit_base_patch16_siglip": {},
    "beit_base_patch16": {},
    "deit_base_distilled_patch16": {},
    "eva02_base_patch14": {},
    "mae_vit_base_patch16": {},
    "vit_base_patch16": {"position": "learned"},
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_starts_a_detectors_backbone(name):
    """Blocks whole; patches, positions and offsets resized; tokens that are no patches left out."""
    small = {"image_size": 32, "width": 16, "depth": 3, "num_heads": 2, "mlp_dim": 16}
    source = create_model(name, **small, patch_size=4, **FAMILIES[name])
    whole = drawn(source)
    encoder = source.encoder.headless()
    fields = {"class_token": False, "distillation_token": False, "registers": 0}
    fields |= {"mask_token": False, "final_norm": False, "window_size": 3, "image_size": 48}
    if encoder.position == "sincos":
        fields["position"] = "learned"
    model = encoder.clone(**fields, patch_size=8, window_blocks=(0, 1))
    found = start_from(source, whole, model)
    images = jax.ShapeDtypeStruct((1, 40, 64, 3), jnp.float32)
    assert jax.eval_shape(model.apply, found, images).shape == (1, 5, 8, 16)
    found, params = found["params"], whole["params"].get("encoder", whole["params"])
    for i in range(3):
        both = found[f"blocks_{i}"], params[f"blocks_{i}"]
        ours, theirs = (flax.traverse_util.flatten_dict(block) for block in both)
        tables = [x.pop(("attention", "relative_bias"), None) for x in (ours, theirs)]
        assert (tables[0] is None) == (model.relative_bias != "block")
        assert_same(ours, theirs)
    assert found["patch_embed"]["kernel"].shape == (8, 8, 3, 16)
    if model.position == "learned":
        assert found["pos_embed"].shape == (1, 36, 16)


def test_a_detectors_backbone_starts_another():
    """Of other windows and sizes: tables resized; convolutions that the source lacks are fresh."""
    source = VisionTransformer(**{**VITDET, **SMALL, "window_size": 2, "window_blocks": (0,)})
    model = source.clone(image_size=16, window_size=3, conv_blocks=(1,))
    found = start_from(source, drawn(source), model)["params"]
    assert found["blocks_0"]["attention"]["relative_down"].shape == (5, 8)
    assert found["blocks_1"]["attention"]["relative_across"].shape == (7, 8)
    assert "propagation" not in found["blocks_1"]
    plain = start_from(VIT, drawn(VIT), model)["params"]
    assert not np.any(plain["blocks_0"]["attention"]["relative_down"])
    assert plain["pos_embed"].shape == (1, 56 * 56, 16)  # of 224 pixels
