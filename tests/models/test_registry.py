"""Networks by name: what is listed, what it is made of, what is refused."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from vit_jax_xfer.models.extract import encoder_of, extract
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.registry import create_model, field_types, list_models, network_class
from vit_jax_xfer.models.vit import VisionTransformer

# Published: DeiT (2012.12877) table 1 in millions, ViT (2010.11929); exact counts from timm.
PARAMETERS = {
    "vit_tiny_patch16": 5_717_416,
    "vit_small_patch16": 22_050_664,
    "vit_base_patch16": 86_567_656,
    "vit_large_patch16": 304_326_632,
    "vit_huge_patch14": 632_045_800,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_published_parameter_counts(name):
    # Scanned, for the same number of parameters is traced sooner.
    model = create_model(name, image_size=224, num_classes=1000, scan=True)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    assert sum(math.prod(x.shape) for x in jax.tree.leaves(shapes)) == PARAMETERS[name]


def test_names_are_sorted_and_filtered():
    names = list_models()
    others = {name for name in names if "_patch" not in name}
    assert others >= {"filter_vit_xs", "lift", "convex_lift", "segmentation"}
    dense = {name for name in others if "backbone" in network_class(name).keywords()}
    assert len(others - dense) == 9  # filter networks, lifts of any patch
    assert list_models("convex_lift_*") == [f"convex_lift_patch{p}" for p in (14, 16, 8)]
    assert list_models("lift_*") == ["lift_patch14", "lift_patch16", "lift_patch8"]
    assert names == sorted(names)
    assert set(PARAMETERS) < set(names)
    assert list_models("vit_base_patch??") == [f"vit_base_patch{p}" for p in (14, 16, 32)]
    assert all(name.startswith("vit_") for name in list_models("vit_*"))
    assert list_models("mae_vit_huge*") == ["mae_vit_huge_patch14", "mae_vit_huge_patch16"]
    assert list_models("resnet*") == []


@pytest.mark.parametrize("name", [*list_models("filter_vit_*"), *list_models("dropout_vit_*")])
def test_filter_networks_are_among_them(name):
    model = create_model(name, image_size=64, num_classes=7)
    assert isinstance(model, FilterViT)
    assert (model.num_classes, model.preprocessing.size) == (7, 64)
    assert all(stage.width % stage.heads == 0 for stage in model.stages)
    with pytest.raises(ValueError, match="FilterViT has no field 'kept'; did you mean 'keep'?"):
        create_model(name, kept=3)


@pytest.mark.parametrize("name", [x for x in list_models("*_patch*") if "lift" not in x])
def test_every_name_is_a_network_whose_heads_fit(name):
    model = create_model(name)
    assert isinstance(model, MaskedAutoencoder if name.startswith("mae_") else VisionTransformer)
    encoder, _ = encoder_of(model, {"params": {"encoder": {}}})
    assert encoder.width % encoder.num_heads == 0
    assert f"patch{encoder.patch_size}" in name.split("_")


def test_published_names_are_among_them():
    found = list_models("vit_*_dinov2")
    assert len(found) == 8
    assert {"vit_small_patch14_dinov2", "vit_giant_patch14_reg4_dinov2"} < set(found)
    assert list_models("deit3_*patch14") == ["deit3_huge_patch14"]


def test_a_published_network_takes_fields_and_its_images_follow_its_size():
    model = create_model("vit_small_patch14_dinov2", depth=2, num_classes=10)
    assert (model.depth, model.num_classes, model.registers) == (2, 10, 0)
    assert model.image_size == model.preprocessing.size == 518
    small = create_model("vit_small_patch14_dinov2", image_size=(224, 112))
    assert small.preprocessing == dataclasses.replace(model.preprocessing, size=(224, 112))
    none = create_model("vit_small_patch14_dinov2", preprocessing=None)
    assert none.preprocessing is None
    other = dataclasses.replace(model.preprocessing, size=256)
    assert create_model("vit_small_patch14_dinov2", preprocessing=other).preprocessing == other


def test_fields_by_keyword():
    model = create_model("vit_micro_patch4", image_size=(16, 24), depth=1, num_classes=7)
    assert (model.grid, model.depth, model.num_classes, model.width) == ((4, 6), 1, 7, 64)
    masked = create_model("mae_vit_micro_patch4", depth=1, decoder_depth=3)
    assert (masked.encoder.depth, masked.decoder_depth) == (1, 3)
    assert (masked.encoder.pool, masked.encoder.num_classes) == ("none", 0)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("vit_bas_patch16", {}, "model 'vit_bas_patch16' is unknown; .*'vit_base_patch16'"),
        ("resnet50", {}, "model 'resnet50' is unknown; vjx.list_models"),
        ("vit_micro_patch4", {"depht": 3}, "no field 'depht'; did you mean 'depth'"),
        ("vit_micro_patch4", {"parent": None}, "no field 'parent'"),
        (
            "vit_micro_patch4",
            {"decoder_depth": 3},
            "VisionTransformer has no field 'decoder_depth'",
        ),
        ("mae_vit_micro_patch4", {"decoder_widht": 3}, "did you mean 'decoder_width'"),
        ("mae_vit_micro_patch4", {"num_head": 3}, "did you mean 'num_heads'"),
    ],
)
def test_unknown_names_come_with_the_nearest(name, fields, message):
    with pytest.raises(ValueError, match=message):
        create_model(name, **fields)


def test_types_of_fields():
    types = field_types("mae_vit_micro_patch4")
    assert types["decoder_width"] is types["mlp_dim"] is int
    assert types["drop_path"] is float
    assert types["scan"] is bool
    assert not {"encoder", "parent", "name"} & set(types)
    assert "decoder_width" not in field_types("vit_micro_patch4")
    types = field_types("convex_lift_patch16")
    assert types == {**dict.fromkeys(("width", "patch_size", "radius"), int), **types}
    assert set(types) == {"width", "patch_size", "radius", "key_width", "hidden", "dtype"}


def test_what_is_kept_belongs_to_networks_that_drop_tokens():
    model = create_model("vit_micro_patch4", image_size=8, depth=1)
    images = jnp.zeros((1, 8, 8, 3))
    with pytest.raises(ValueError, match="kept: VisionTransformer drops no tokens"):
        extract(model, {}, images, kept=[jnp.zeros((1, 2), jnp.int32)])
    with pytest.raises(ValueError, match="layers: 1 .* depth 1"):
        extract(model, {}, images, layers=[1])


@pytest.mark.parametrize("name", ["lift_patch16", "convex_lift_patch16"])
def test_networks_that_double_features_show_no_tokens(name):
    images = jnp.zeros((1, 32, 32, 3))
    message = "model: extract looks into .*, not into a .*LiFT; .*: vjx.dense.lift"
    with pytest.raises(ValueError, match=message):
        extract(create_model(name), {}, images)
