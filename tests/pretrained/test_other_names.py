"""The same weights under other publishers' names: the same network, of the right family."""

import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.outputs import assert_close, assert_same, assert_same_network, prefixed, renamed
from vit_jax_xfer.pretrained import load_pretrained, to_publisher_names
from vit_jax_xfer.pretrained.file_to_model import load_on_host

ROWS = np.float32(0.1) * np.arange(48, dtype=np.float32)


def cosines(grid, side):
    """EVA-02's table for heads of 16 channels and side × side cells, counted on a grid."""
    places = np.arange(side) / side * grid
    angles = np.repeat(places[:, None] * 10000.0 ** -(np.arange(4) / 4), 2, axis=1)
    rows, columns = np.repeat(angles, side, axis=0), np.tile(angles, (side, 1))
    return np.cos(np.concatenate([rows, columns], axis=1))


def periods(base, number):
    """DINOv3's wavelengths."""
    return base ** (np.arange(number) / number)


@pytest.mark.parametrize("kind", ["mlp", "swiglu"])
def test_dinov3_in_timm_names(golden_case, kind):
    """timm splits the bias, or leaves it out; the key's was never used."""
    _, arrays, state = golden_case(f"dinov3/{kind}_native")
    timm = renamed(
        state,
        ("storage_tokens", "reg_token"),
        (r"ls([12])\.gamma", r"gamma_\1"),
        (r"mlp\.w1\.", "mlp.fc1_g."),
        (r"mlp\.w2\.", "mlp.fc1_x."),
        (r"mlp\.w3\.", "mlp.fc2."),
    )
    del timm["mask_token"]
    for i in range(3):
        bias = timm.pop(f"blocks.{i}.attn.qkv.bias")
        timm[f"blocks.{i}.attn.q_bias"], _, timm[f"blocks.{i}.attn.v_bias"] = np.split(bias, 3)
    model, variables, found = load_on_host(timm, num_heads=3)
    assert (found.family.name, model.qkv_bias) == ("dinov3", "no_key")
    out = vjx.extract(model, variables, arrays["image"])
    assert_close(out.patch_tokens.reshape(2, 16, 48), arrays["patch"])
    bare = {name: x for name, x in timm.items() if not name.endswith(("q_bias", "v_bias"))}
    model, variables, found = load_on_host(bare, num_heads=3)
    assert (found.family.name, model.qkv_bias) == ("dinov3", "none")
    for i in range(3):
        state[f"blocks.{i}.attn.qkv.bias"] = np.zeros(144, np.float32)
    wanted = vjx.extract(*load_pretrained(state, num_heads=3), arrays["image"])
    assert_close(vjx.extract(model, variables, arrays["image"]).tokens, wanted.tokens)


@pytest.mark.parametrize(
    ("case", "family", "buffers"),
    [
        (
            "timm/beit",
            "beit",
            {
                "blocks.1.attn.relative_position_index": np.zeros((17, 17), np.int64),
                "blocks.1.attn.k_bias": np.zeros(48),
            },
        ),
        (
            "timm/eva02",
            "eva02",
            {
                "rope.freqs_sin": np.ones((16, 16)),
                "blocks.2.attn.rope.freqs_sin": np.ones((16, 16)),
            },
        ),
        (
            "dinov3/mlp_native",
            "dinov3",
            {
                "rope_embed.periods": periods(100, 4),
                "blocks.0.attn.qkv.bias_mask": np.ones(144),
                "local_cls_norm.weight": np.ones(48),
            },
        ),
        ("hf/clip", "clip", {"embeddings.position_ids": np.arange(17)[None]}),
        ("hf/dinov3", "dinov3", {"rope_embeddings.inv_freq": np.ones(4)}),
        (
            "hf/beit",
            "beit",
            {
                "beit.layers.0.relative_position_bias.relative_position_index": np.zeros((17, 17)),
                "lm_head.bias": np.zeros(8),
            },
        ),
    ],
)
def test_buffers_change_nothing(golden, case, family, buffers):
    assert_same_network({**golden(case), **buffers}, golden(case), family)


@pytest.mark.parametrize(
    ("case", "table", "fields"),
    [
        ("timm/eva02", {"rope.freqs_cos": cosines(16, 4)}, {"rotary_grid": 16}),
        ("timm/eva02", {"rope.freqs_cos": cosines(9, 6)}, {"rotary_grid": 9}),
        ("timm/eva02", {"blocks.0.attn.rope.freqs_cos": cosines(12, 4)}, {"rotary_grid": 12}),
        ("dinov3/mlp_native", {"rope_embed.periods": periods(100, 4)}, {"rotary_base": 100.0}),
        ("dinov3/mlp_native", {"rope_embed.periods": periods(50, 4)}, {"rotary_base": 50.0}),
        # Of bfloat16, of which a base is nearly what it was.
        ("dinov3/mlp_native", {"rope_embed.periods": 1.003 * periods(100, 4)}, {"num_heads": 3}),
    ],
)
def test_rotary_tables_are_heard(golden, case, table, fields):
    """They are no parameters, but what the file's network turns by; and they tell the heads."""
    fields = {"num_heads": 3, **fields}
    model, _ = load_pretrained({**golden(case), **table})
    assert {name: getattr(model, name) for name in fields} == fields
    told = {"rotary_grid": 11} if "rotary_grid" in fields else {"rotary_base": 7.0}
    model, _ = load_pretrained({**golden(case), **table}, **told)
    assert {name: getattr(model, name) for name in told} == told


@pytest.mark.parametrize(
    ("case", "table"),
    [
        ("timm/eva02", {"rope.freqs_cos": np.cos(np.arange(256.0)).reshape(16, 16)}),
        ("timm/eva02", {"rope.freqs_cos": np.full((16, 16), np.nan)}),
        ("timm/eva02", {"rope.freqs_cos": cosines(16, 4)[:15]}),
        ("dinov3/mlp_native", {"rope_embed.periods": np.arange(1.0, 5)}),
        ("dinov3/mlp_native", {"rope_embed.periods": np.full(4, np.nan)}),
    ],
)
def test_rotary_tables_of_other_angles_are_refused(golden, case, table):
    with pytest.raises(ValueError, match="rope: .* other angles .*pass rotary_base="):
        load_pretrained({**golden(case), **table})


def test_deit3(golden):
    state = golden("timm/deit3_layerscale")
    publishers = renamed(state, (r"ls([12])\.gamma", r"gamma_\1"))
    assert_same_network({"model": publishers}, state, "deit3")


def test_beit_shares_its_table_before_fine_tuning(golden):
    """Pre-training's one table is the same as an equal one in each block."""
    state = golden("timm/beit")
    for name in ("head.weight", "head.bias"):
        del state[name]
    state = renamed(state, (r"^fc_norm\.", "norm."))
    table = "attn.relative_position_bias_table"
    for i in (1, 2):
        state[f"blocks.{i}.{table}"] = state[f"blocks.0.{table}"]
    one = {name: x for name, x in state.items() if not name.endswith(table)}
    one["rel_pos_bias.relative_position_bias_table"] = state[f"blocks.0.{table}"]
    one["rel_pos_bias.relative_position_index"] = np.zeros((17, 17), np.int64)
    one["mask_token"] = ROWS[None, None]
    one |= {"lm_head.weight": np.ones((20, 48)), "lm_head.bias": np.ones(20)}
    model, variables, found = load_on_host({"module": one}, num_heads=3)
    assert (found.family.name, model.relative_bias, model.mask_token) == ("beit", "shared", True)
    second = {"cls_pt_layers.0.norm1.weight": np.ones(48), "cls_pt_norm.bias": np.ones(48)}
    assert_same_network({**one, **second}, one, "beitv2", layer_scale=1e-5)
    images = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
    wanted = vjx.extract(*load_pretrained(state, num_heads=3), images, attention=True)
    out = vjx.extract(model, variables, images, attention=True)
    assert_close(out.tokens, wanted.tokens)
    assert_close(out.attention, wanted.attention)


def test_eva02_tiny_and_small(golden):
    """Gate and value are packed; timm calls the same array fc1."""
    state = golden("timm/eva02")
    publishers = renamed(state, (r"mlp\.fc1\.", "mlp.w12."), (r"mlp\.fc2\.", "mlp.w3."))
    assert_same_network({"model": publishers}, state, "eva02")


def split_eva02(state):
    """Base and large, in timm's names: the projections apart, and a norm in the MLP."""
    split = {}
    for name, x in state.items():
        block, _, _ = name.rpartition("attn.qkv.weight")
        if block:
            parts = zip("qkv", np.split(x, 3), strict=True)
            split |= {f"{block}attn.{part}_proj.weight": y for part, y in parts}
        elif ".mlp.fc1." in name:
            gate, value = np.split(x, 2)
            split[name.replace("fc1", "fc1_g")], split[name.replace("fc1", "fc1_x")] = gate, value
        else:
            split[name] = x
    return split


def test_eva02_base_and_large(golden):
    state = golden("timm/eva02")
    timm = split_eva02(state)
    assert_same_network(timm, state, "eva02")
    for i in range(3):
        timm[f"blocks.{i}.mlp.norm.weight"] = 1 + np.resize(ROWS, 128)
        timm[f"blocks.{i}.mlp.norm.bias"] = np.resize(ROWS, 128)
        timm[f"blocks.{i}.attn.norm.weight"], timm[f"blocks.{i}.attn.norm.bias"] = 1 + ROWS, ROWS
    publishers = renamed(
        timm,
        (r"mlp\.norm\.", "mlp.ffn_ln."),
        (r"mlp\.fc1_g\.", "mlp.w1."),
        (r"mlp\.fc1_x\.", "mlp.w2."),
        (r"mlp\.fc2\.", "mlp.w3."),
        (r"attn\.norm\.", "attn.inner_attn_ln."),
    )
    timm = renamed(timm, (r"attn\.([qv])_bias", r"attn.\1_proj.bias"))
    text = {"text.token_embedding.weight": np.ones((60, 40)), "logit_scale": np.array(2.3)}
    for file in (publishers, {"module": publishers}, {**prefixed("visual.", publishers), **text}):
        assert_same_network(file, timm, "eva02")
    model, variables = load_pretrained(publishers, num_heads=3)
    assert (model.mlp_norm, model.attention_norm, model.pool) == (True, True, "avg")
    assert_same(to_publisher_names(variables, "eva02"), publishers)
    assert_same(to_publisher_names(variables, "eva02", "timm"), timm)


def test_openai(golden):
    state = golden("timm/clip_prenorm")
    del state["head.bias"]  # its head is a projection without one
    openai = renamed(
        state,
        (r"^cls_token$", "class_embedding"),
        (r"^pos_embed$", "positional_embedding"),
        (r"^patch_embed\.proj\.", "conv1."),
        (r"^norm_pre\.", "ln_pre."),
        (r"^norm\.", "ln_post."),
        (r"^head\.weight$", "proj"),
        (r"^blocks\.", "transformer.resblocks."),
        (r"attn\.qkv\.", "attn.in_proj_"),
        (r"attn\.proj\.", "attn.out_proj."),
        (r"\.norm([12])\.", r".ln_\1."),
        (r"\.mlp\.fc1\.", ".mlp.c_fc."),
        (r"\.mlp\.fc2\.", ".mlp.c_proj."),
    )
    openai["class_embedding"] = openai["class_embedding"][0, 0]
    openai["positional_embedding"] = openai["positional_embedding"][0]
    openai["proj"] = openai["proj"].T
    assert_same_network(openai, state, "clip")
    text = {
        "positional_embedding": np.ones((77, 32)),
        "transformer.resblocks.0.ln_1.bias": np.ones(32),
        "token_embedding.weight": np.ones((60, 32)),
        "text_projection": np.ones((32, 10)),
        "logit_scale": np.array(4.6),
        "context_length": np.array(77),
    }
    whole = {**prefixed("visual.", openai), **text}
    assert_same_network(whole, state, "clip")
    training = {"epoch": 32, "state_dict": prefixed("module.", whole)}
    assert_same_network(training, state, "clip")


@pytest.mark.parametrize("mlp", [("linear_1", "linear_2"), ("0", "3")])
def test_torchvision(golden, mlp):
    """Published files have the former names in their MLPs, its state dicts the latter."""
    state = golden("timm/supervised_cls")
    block = "encoder.layers.encoder_layer_"
    vision = renamed(
        state,
        (r"^cls_token$", "class_token"),
        (r"^pos_embed$", "encoder.pos_embedding"),
        (r"^patch_embed\.proj\.", "conv_proj."),
        (r"^norm\.", "encoder.ln."),
        (r"^head\.", "heads.head."),
        (r"^blocks\.", block),
        (r"attn\.qkv\.", "self_attention.in_proj_"),
        (r"attn\.proj\.", "self_attention.out_proj."),
        (r"\.norm([12])\.", r".ln_\1."),
        *((rf"\.mlp\.fc{i + 1}\.", f".mlp.{name}.") for i, name in enumerate(mlp)),
    )
    assert_same_network(vision, state, "torchvision", position_resize="bicubic_corners")
    lightning = {"state_dict": prefixed("model.", vision)}
    assert_same_network(lightning, state, "torchvision", position_resize="bicubic_corners")
    _, variables = load_pretrained(vision, num_heads=3)
    assert_same(to_publisher_names(variables, "torchvision", "timm"), state)
    if mlp[0] == "linear_1":
        assert_same(to_publisher_names(variables, "torchvision"), vision)
    with pytest.warns(UserWarning, match="preprocessing: taken for IMAGENET1K_V1's, .*SWAG"):
        load_pretrained(vision, num_heads=3)


def test_names_apart_and_together_are_one_parameter(golden):
    """Registers are called three ways, and q, k, v stand alone or as one."""
    state = golden("timm/qknorm_registers")
    wanted = load_pretrained(state, num_heads=3)[1]
    for name in ("register_tokens", "storage_tokens"):
        other = renamed(state, ("^reg_token$", name))
        for i in range(3):
            for leaf in ("weight", "bias"):
                parts = np.split(other.pop(f"blocks.{i}.attn.qkv.{leaf}"), 3)
                for part, x in zip("qkv", parts, strict=True):
                    other[f"blocks.{i}.attn.{part}_proj.{leaf}"] = x
        assert_same(load_pretrained(other, "supervised", num_heads=3)[1], wanted)
