"""What timm's config.json tells of a network, and that the weights must agree with it."""

import json

import pytest
from safetensors.numpy import save_file

from tests.pretrained.timm_names import state_dict
from vit_jax_xfer.pretrained.file_to_model import load_pretrained
from vit_jax_xfer.pretrained.timm_config import read_timm


def timm_fields(config):
    return read_timm(config).fields


NAME = "vit_tiny_patch16_224"
ARGUMENTS = {"embed_dim": 32, "depth": 1, "num_heads": 4, "img_size": [32, 32], "num_classes": 3}


def folder(path, state, **config):
    """As timm's save_for_hf writes it."""
    save_file(state, path / "model.safetensors")
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("architecture", "fields"),
    [
        ("vit_base_patch16_gap_224", {"num_heads": 16, "pool": "avg", "class_token": False}),
        ("vit_base_patch16_clip_quickgelu_224", {"activation": "quick_gelu", "norm_eps": 1e-5}),
        ("vit_base_patch16_siglip_224", {"activation": "gelu", "pool": "map"}),
        ("vit_so400m_patch16_siglip_256", {"activation": "gelu_tanh", "num_heads": 16}),
        ("vit_base_patch32_siglip_gap_256", {"activation": "gelu_tanh", "pool": "avg"}),
        ("vit_giant_patch14_dinov2", {"mlp": "swiglu", "mlp_dim": 4096, "num_heads": 24}),
        ("vit_so150m_patch16_reg4_map_256", {"pool": "map_patches", "register_position": True}),
        ("deit_tiny_distilled_patch16_224", {"distillation_token": True}),
        ("deit3_base_patch16_224.fb_in1k", {"class_position": False, "layer_scale": 1e-6}),
        ("beit_large_patch16_512", {"relative_bias": "block", "qkv_bias": "no_key"}),
        ("eva02_base_patch14_448", {"rotary": "eva02", "rotary_grid": 16, "mlp_norm": True}),
        ("vit_huge_plus_patch16_dinov3", {"rotary": "dinov3", "num_heads": 20, "pool": "avg"}),
        (
            "vit_medium_patch16_rope_reg1_gap_256",
            {"rotary": "eva02", "position": "none", "rotary_base": 10000.0},
        ),
    ],
)
def test_a_name_stands_for(architecture, fields):
    found = timm_fields({"architecture": architecture})
    assert {name: found[name] for name in fields} == fields


def test_the_tag_of_openais_own_weights_alone_means_their_gelu():
    for tag, activation in [
        ("openai", "quick_gelu"),
        ("openai_ft_in1k", "gelu"),
        ("openai_ft_in12k_in1k", "gelu"),
        ("laion2b", "gelu"),
    ]:
        config = {"architecture": "vit_base_patch16_clip_224", "pretrained_cfg": {"tag": tag}}
        assert timm_fields(config)["activation"] == activation


@pytest.mark.parametrize(
    ("arguments", "fields"),
    [
        ({"num_heads": 6}, {"num_heads": 6}),
        ({"act_layer": "quick_gelu"}, {"activation": "quick_gelu"}),
        ({"global_pool": "avgmax"}, {"pool": "avg_max"}),
        (
            {"global_pool": "max", "class_token": False},
            {"pool": "max_patches", "class_token": False},
        ),
        ({"img_size": [32, 128]}, {"image_size": (32, 128)}),
        ({"global_pool": "avg", "pool_include_prefix": True}, {"pool": "avg_all"}),
        ({"reg_tokens": 4, "global_pool": "map"}, {"pool": "map_patches"}),
        (
            {"reg_tokens": 4, "global_pool": "map", "pool_include_prefix": True},
            {"pool": "map"},
        ),
        ({"in_chans": 4}, {"in_channels": 4}),
        ({"pre_norm": True}, {"pre_norm": True, "patch_bias": False}),
        ({"drop_path_rate": 0.1, "dynamic_img_size": True}, {}),
    ],
)
def test_arguments_come_before_the_name(arguments, fields):
    found = timm_fields({"architecture": NAME, "model_args": arguments})
    assert {name: found[name] for name in fields} == fields


@pytest.mark.parametrize(
    ("architecture", "arguments", "said"),
    [
        ("vit_base_patch16_rpn_224", {}, "block_fn='ResPostBlock'"),
        ("vit_small_patch16_rope_224", {}, "attn_type='rope'"),
        ("vit_pe_core_base_patch16_224", {}, "attn_type='rope'"),
        ("eva02_enormous_patch14_clip_224", {}, "use_post_norm=True"),
        ("vit_dlittle_patch16_reg1_gap_256", {}, "attn_layer='diff'"),
        ("vit_intern300m_patch14_448", {}, "final_norm=False"),
        ("aimv2_1b_patch14_224", {}, "norm_layer='rmsnorm'"),
        (NAME, {"block_fn": "ResPostBlock"}, "block_fn"),
        (NAME, {"act_layer": "relu"}, "act_layer='relu'"),
        (NAME, {"global_pool": "max", "pool_include_prefix": True}, "pool_include_prefix"),
        (NAME, {"global_pool": "prr"}, "global_pool='prr'"),
        (NAME, {"in_chans": "rgb"}, "in_chans='rgb'"),
        (NAME, {"of_tomorrow": 1}, "of_tomorrow=1"),
        (NAME, {"num_heads": "three"}, "num_heads='three'"),
        (NAME, {"mlp_ratio": None}, "mlp_ratio=None"),
        (NAME, ["num_heads"], "model_args"),
    ],
)
def test_what_no_network_here_computes_is_refused(architecture, arguments, said):
    with pytest.raises(ValueError, match=r"config\.json: .*" + said) as error:
        timm_fields({"architecture": architecture, "model_args": arguments})
    assert "\n" not in str(error.value)


def test_flat_configurations_of_before():
    config = {"architecture": NAME, "num_classes": 5, "input_size": [3, 64, 32], "mean": [0] * 3}
    found = timm_fields(config)
    assert (found["num_classes"], found["image_size"]) == (5, (64, 32))


def test_an_unknown_name_is_refused_until_the_caller_says_all_that_it_stands_for(tmp_path):
    source = folder(tmp_path, state_dict(), architecture="vit_tomorrow_patch16_224")
    with pytest.raises(ValueError, match="'vit_tomorrow_patch16_224' is not known"):
        load_pretrained(source)
    with pytest.raises(ValueError, match=r"family=…, num_heads=…, activation=…, norm_eps=…"):
        load_pretrained(source, family="supervised", num_heads=4)
    said = {"num_heads": 4, "activation": "quick_gelu", "norm_eps": 1e-5, "pool": "cls"}
    model, _ = load_pretrained(source, family="supervised", **said)
    assert {name: getattr(model, name) for name in said} == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"in_chans": 1}, "in_chans is 1, but the weights say channels: 3"),
        ({"depth": 2}, "depth is 2, but the weights say depth: 1"),
        ({"embed_dim": 64}, "embed_dim is 64, but the weights say width: 32"),
        ({"num_classes": 5}, "num_classes is 5, but the weights say classes: 3"),
        ({"mlp_ratio": 2}, "mlp_ratio is 64, but the weights say MLP width: 128"),
        ({"class_token": False, "global_pool": "avg"}, "class_token is False.*a class token: True"),
        ({"qkv_bias": False}, "qkv_bias is False.*a bias of q, k and v: True"),
        ({"init_values": 1e-5}, "init_values is 1e-05.*LayerScale: False"),
        ({"pos_embed": "none"}, "pos_embed is False.*a table of positions: True"),
        ({"reg_tokens": 4}, "reg_tokens is 4, but the weights say registers: 0"),
    ],
)
def test_weights_of_another_network_are_refused(tmp_path, change, said):
    arguments = {**ARGUMENTS, **change}
    source = folder(tmp_path, state_dict(), architecture=NAME, model_args=arguments)
    with pytest.raises(ValueError, match=said):
        load_pretrained(source)


@pytest.mark.parametrize(
    ("pool", "norm", "fields"),
    [
        ("token", "norm", ("cls", None)),
        ("token", "fc_norm", ("cls", True)),
        ("avg", "fc_norm", ("avg", None)),
        ("avg", "norm", ("avg", False)),  # with fc_norm=False, or changed after it was built
        ("avgmax", "fc_norm", ("avg_max", True)),
        ("max", "norm", ("max_patches", None)),
    ],
)
def test_pooling_is_the_configurations_and_the_norms_place_the_weights(
    tmp_path, pool, norm, fields
):
    source = folder(
        tmp_path,
        state_dict(norm=norm),
        architecture=NAME,
        global_pool=pool,
        model_args=ARGUMENTS,
    )
    model, _ = load_pretrained(source)
    assert (model.pool, model.pool_norm) == fields
    assert (model.num_heads, model.position_resize) == (4, "bicubic_antialias")


REGISTERS = {"reg_token": (1, 4, 32)}


@pytest.mark.parametrize(
    ("tokens", "more", "fields"),
    [
        (9, REGISTERS, (True, True, 32)),  # 4 patches, 4 registers, the class token
        (8, {**REGISTERS, "cls_token": None}, (True, True, 32)),
        (5, REGISTERS, (True, False, 32)),  # DINOv2's by Meta
        (16, REGISTERS, (False, False, 64)),  # by timm
    ],
)
def test_registers_with_positions_are_told_by_the_number_of_rows(tokens, more, fields):
    state = state_dict(tokens, **more)
    if tokens == 9:  # or 3×3 patches and no rows of others
        with pytest.raises(ValueError, match="3×3 or 2×2 patches.*4 register tokens have pos"):
            load_pretrained(state, num_heads=4)
    model, _ = load_pretrained(state, num_heads=4, image_size=fields[2])
    assert (model.class_position, model.register_position, model.image_size) == fields
    assert model.registers == 4
