"""Files and fields that don't fit: one line that says what, in the file's own names."""

import json

import numpy as np
import pytest

from vit_jax_xfer.pretrained import load_pretrained
from vit_jax_xfer.pretrained.families import FAMILIES as BY_NAME


def fails(match, source, *args, **fields):
    with pytest.raises(ValueError, match=match) as caught:
        load_pretrained(source, *args, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def zeros(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    "state",
    [
        {"conv1.weight": zeros(64, 3, 7, 7), "layer1.0.bn1.weight": zeros(64)},
        {"embeddings.word_embeddings.weight": zeros(60, 48), "pooler.dense.bias": zeros(48)},
        {
            "encoder.layer.0.attention.self.query.weight": zeros(48, 48),
            "encoder.layer.0.output.LayerNorm.weight": zeros(48),
        },
        {"layers.0.blocks.0.norm1.weight": zeros(48), "patch_embed.norm.bias": zeros(48)},
    ],
    ids=["resnet", "bert", "bert_layers", "swin"],
)
@pytest.mark.parametrize("family", [None, "supervised"])
def test_other_networks(state, family):
    first = next(iter(state))
    message = fails(rf"names fit no family: {first}, .* \(2 names\); families: ", state, family)
    assert all(name in message for name in BY_NAME)


def test_text_towers_alone():
    state = {
        "encoder.layers.0.self_attn.q_proj.weight": zeros(48, 48),
        "encoder.layers.0.layer_norm1.weight": zeros(48),
        "embeddings.token_embedding.weight": zeros(60, 48),
    }
    fails("^embeddings.patch_embedding.weight: not in the file", state)


@pytest.mark.parametrize(
    ("case", "family", "match"),
    [
        ("timm/supervised_cls", "beit", "'beit' has qkv_bias='no_key', but the file has 'full'"),
        ("timm/supervised_cls", "dinov3", "'dinov3' has position='none', .* has 'learned'"),
        ("timm/supervised_cls", "clip", "'clip' has pre_norm=True, but the file has False"),
        ("timm/supervised_cls", "siglip", "'siglip' has pool='map', but the file has 'cls'"),
        ("timm/supervised_cls", "eva02", "'eva02' has mlp='swiglu', but the file has 'plain'"),
        ("timm/supervised_cls", "deit3", "'deit3' has class_position=False, .* has True"),
        ("timm/beit", "dinov2", "'dinov2' has position='learned', but the file has 'none'"),
        ("hf/siglip", "dino", "'dino' has class_token=True, but the file has False"),
        ("dinov2/layerscale_native", "dinov3", "'dinov3' has position='none', "),
    ],
)
def test_another_family(golden, case, family, match):
    hint = "; leave family out to have it told from the names$"
    fails(f"^family: {match}.*{hint}", golden(case), family, num_heads=3)


@pytest.mark.parametrize(
    ("case", "heads", "match"),
    [
        ("timm/supervised_cls", 5, "num_heads: 5 does not divide width 48"),
        ("timm/supervised_cls", 0, "num_heads: 0 does not divide width 48"),
        ("timm/supervised_cls", None, "num_heads: shapes don't tell it for width 48; pass num_he"),
        # One column of the table a head, and norms of a head's width.
        ("timm/beit", 4, "num_heads: got 4, but the file has 3"),
        ("timm/qknorm_registers", 4, "num_heads: got 4, but the file has 3"),
    ],
)
def test_heads(golden, case, heads, match):
    fails(f"^{match}", golden(case), num_heads=heads)


@pytest.mark.parametrize("case", ["timm/beit", "timm/qknorm_registers"])
def test_heads_that_shapes_tell(golden, case):
    assert load_pretrained(golden(case))[0].num_heads == 3


HF = "vit.layers.{}.{}"
HUB = "encoder.layer.{}.{}"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({HF.format(0, "adapter.weight"): zeros(3)}, r"not used: vit\.layers\.0\.adapter\.weight$"),
        (
            {HF.format(1, "mlp.fc2.bias"): None},
            rf"not filled: blocks_1/mlp/fc2/bias \(from {HUB.format(1, 'output.dense.bias')}\)$",
        ),
        (
            {HF.format(0, "attention.k_proj.weight"): None},
            rf"; 1 [^;]+/kernel \(from {HUB.format(0, 'attention.attention.key.weight')}\)$",
        ),
        (
            {HF.format(2, f"attention.{x}_proj.weight"): None for x in "qkv"},
            rf"/kernel \(from {HUB.format(2, 'attention.attention.query.weight')}\), ",
        ),
        (
            {HF.format(2, "layernorm_before.weight"): zeros(47)},
            r"disagree: vit\.layers\.2\.layernorm_before\.weight: found \(47,\), wanted \(48,\)$",
        ),
        (
            {"vit.embeddings.patch_embeddings.projection.weight": zeros(48, 3, 8, 7)},
            r"disagree: vit\.embed.*projection\.weight: found \(48, 3, 8, 7\), wanted \(48, 3, 8",
        ),
        (
            {"vit.embeddings.patch_embeddings.projection.weight": zeros(48, 192)},
            r"^vit\.embed.*: found shape \(48, 192\), wanted another number of axes$",
        ),
        (
            {HF.format(0, "mlp.fc2.weight"): None},
            f"^{HUB.format(0, 'output.dense.weight')}: not in the file, and the model's size",
        ),
        (
            {"vit.embeddings.cls_token": zeros(2, 48)},
            r"^vit\.embeddings\.cls_token: found shape \(2, 48\), wanted that of a token or of",
        ),
    ],
)
def test_names_are_the_files_own(golden, changes, match):
    state = {**golden("hf/vit"), **changes}
    fails(match, {name: x for name, x in state.items() if x is not None}, num_heads=3)


def test_all_that_is_wrong_in_one_line(golden):
    state = golden("hf/beit")
    del state["beit.layers.1.lambda_2"]
    state["beit.pooler.layernorm.bias"] = zeros(3)
    state["beit.strange"] = zeros(3)
    message = fails("^the file does not load whole; ", state, num_heads=3)
    for part in (
        "not used: beit.strange; ",
        "not filled: blocks_1/layer_scale2 (from encoder.layer.1.lambda_2); ",
        "disagree: beit.pooler.layernorm.bias: found (3,), wanted (48,)",
    ):
        assert part in message


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(golden, number):
    state = golden("hf/vit")
    name = "vit.layers.1.attention.k_proj.weight"
    state[name] = state[name].copy()
    state[name][3, :2] = number
    fails(
        rf"^{name}: 2 of 2304 numbers are infinite or none \(NaN\), .*float32$", state, num_heads=3
    )


def test_positions_of_no_grid(golden):
    state = golden("hf/vit")
    state["vit.embeddings.position_embeddings"] = zeros(1, 19, 48)
    match = (
        "^vit.embeddings.position_embeddings: 19 positions are not 1 and a square grid of patches; "
    )
    fails(match + r"pass the image_size=\(height, width\)", state, num_heads=3)
    fails(match, state, num_heads=3, image_size=(24, 24))
    assert load_pretrained(state, num_heads=3, image_size=(48, 24))[0].image_size == (48, 24)


def test_tables_of_no_grid(golden):
    state = golden("timm/beit")
    names = [f"blocks.{i}.attn.relative_position_bias_table" for i in range(3)]
    state |= {name: zeros(5 * 11 + 3, 3) for name in names}
    match = "^relative_position_bias_table: 58 rows fit no square grid of patches; pass the image_"
    fails(match, state)
    fails(match, state, image_size=(24, 40))
    assert load_pretrained(state, image_size=(24, 48))[0].grid == (3, 6)
    state = golden("timm/beit")
    state[names[1]] = zeros(50, 3)
    fails(rf"disagree: {names[1]}: found \(50, 3\), wanted \(52, 3\)$", state)
    fails(f"^{names[1]}: 50 rows, the first table has 52$", state, image_size=64)


@pytest.mark.parametrize("case", ["timm/supervised_cls", "hf/vit", "dinov3/mlp_native"])
def test_image_sizes_are_whole_patches(golden, case):
    for size in (65, (32, 30)):
        fails("^image_size: .* not a whole number of", golden(case), num_heads=3, image_size=size)
    fails("^image_size: got 64.0, expected pixels", golden(case), num_heads=3, image_size=64.0)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"hidden_act": "relu"}, "hidden_act 'relu' is none that a ViT here has"),
        ({"num_attention_heads": "3"}, "num_attention_heads is '3', expected a number"),
        ({"layer_norm_eps": [1]}, r"layer_norm_eps is \[1\], expected a number"),
        ({"vision_config": 3}, "vision_config is 3, expected an object"),
        ({"num_attention_heads": 5}, "num_heads: 5 does not divide width 48"),
    ],
)
def test_configurations(golden_case, tmp_path, changes, match):
    save_file = pytest.importorskip("safetensors.numpy", reason="needs safetensors").save_file
    meta, _, state = golden_case("hf/vit")
    save_file(state, tmp_path / "model.safetensors")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(meta["config"]))
    assert load_pretrained(tmp_path)[0].num_heads == 3
    fails("^num_heads: got 4, but the file has 3$", tmp_path, num_heads=4)
    path.write_text(json.dumps({**meta["config"], **changes}))
    fails(match, tmp_path)


def test_fields_of_another_network(golden):
    state = golden("timm/supervised_cls")
    fails("^VisionTransformer has no field 'decoder_depth'", state, num_heads=3, decoder_depth=2)
    fails(
        "^distillation_head: needs distillation_token", state, num_heads=3, distillation_head=True
    )
    fails("^registers: got 4, but the file has 0", state, num_heads=3, registers=4)
    fails(r"not filled: mask_token \(from mask_token\)", state, num_heads=3, mask_token=True)
    whole = golden("mae_pretrain/normpix_0")
    fails(
        "^MaskedAutoencoder has no field 'decoder_heads'",
        whole,
        num_heads=3,
        decoder_num_heads=4,
        decoder_heads=4,
    )


def test_post_norm_blocks_under_pre_norm_names():
    width, inner = 1792, 8
    state = {
        "cls_token": zeros(1, 1, width),
        "pos_embed": zeros(1, 257, width),
        "patch_embed.proj.weight": np.broadcast_to(np.float32(0), (width, 3, 14, 14)),
        "patch_embed.proj.bias": zeros(width),
        "blocks.0.norm1.weight": zeros(width),
        "blocks.0.attn.q_bias": zeros(width),
        "blocks.0.attn.v_bias": zeros(width),
        "blocks.0.attn.qkv.weight": np.broadcast_to(np.float32(0), (3 * width, width)),
        "blocks.0.mlp.fc1.weight": zeros(inner, width),
        "blocks.0.mlp.fc2.weight": zeros(width, inner),
    }
    fails("EVA-02 enormous, whose blocks norm after their branches", state)
