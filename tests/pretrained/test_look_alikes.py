"""Files whose names are like ours and whose networks are not are refused, by what shows it."""

import warnings

import numpy as np
import pytest

from tests.pretrained.test_timm_config import state_dict
from vit_jax_xfer.pretrained.file_to_model import load_on_host, load_pretrained


def wide(**more):
    """A base ViT of patches alone, which zero strides keep from taking memory."""
    shapes = {name: x.shape for name, x in state_dict(4, cls_token=None).items()}
    shapes = {k: tuple(n * 24 if n % 32 == 0 else n for n in shape) for k, shape in shapes.items()}
    wider = {name: shape for name, shape in {**shapes, **more}.items() if shape}
    return {name: np.broadcast_to(np.float32(0.1), shape) for name, shape in wider.items()}


MEAN_NORM = {
    "norm.weight": None,
    "norm.bias": None,
    "fc_norm.weight": (768,),
    "fc_norm.bias": (768,),
}
QUERY_NORMS = {
    f"blocks.0.attn.{name}_norm.{leaf}": (32,) for name in "qk" for leaf in ("weight", "bias")
}
POOLING = {
    "attn_pool.latent": (1, 1, 32),
    "norm_pre.weight": (32,),
    "norm_pre.bias": (32,),
}


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (lambda: state_dict(**{"rope.freqs": (2, 1, 2, 4)}), "rope.freqs: learned rotary"),
        (lambda: state_dict(**{"blocks.0.attn.lambda_q1": (8,)}), "differential attention"),
        (lambda: state_dict(**QUERY_NORMS), "q_norm: is as wide as the network, .*num_heads=1"),
        (lambda: state_dict(**POOLING), "a Perception Encoder"),
        (
            lambda: wide(**MEAN_NORM, **{"blocks.0.attn.qkv.bias": None}),
            "vit_base_patch16_rpn_224, whose blocks norm after",
        ),
        (wide, "num_heads: timm's vit_base_patch16_gap_224 has 16, other .* have 12"),
    ],
)
@pytest.mark.parametrize("family", [None, "supervised"])
def test_refused_with_or_without_a_family(state, said, family):
    given = {} if said.startswith("num_heads") else {"num_heads": 4}
    with pytest.raises(ValueError, match=said) as error:
        load_pretrained(state(), family, **given)
    assert "\n" not in str(error.value)


def test_phi4s_tower_is_told_from_siglips_by_its_size():
    width = 1152
    linear = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")
    linear += ("mlp.fc1", "mlp.fc2", "layer_norm1", "layer_norm2")
    shapes = {
        f"encoder.layers.0.{name}.{leaf}": (width,) * (2 if leaf == "weight" else 1)
        for name in linear
        for leaf in ("weight", "bias")
    }
    shapes |= {f"encoder.layers.0.layer_norm{i}.weight": (width,) for i in (1, 2)}
    shapes |= {
        "embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "embeddings.position_embedding.weight": (32 * 32, width),
        "head.probe": (1, 1, width),
    }
    state = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match="those of Phi-4's image tower"):
        load_pretrained(state)


def test_what_the_caller_settles_is_taken():
    assert load_on_host(wide(), num_heads=16)[0].num_heads == 16
    assert load_on_host(state_dict(**QUERY_NORMS), num_heads=1)[0].num_heads == 1


def test_a_network_without_positions_is_none_of_any_family():
    """Rotary positions have no parameters: whoever is asked for them must say so."""
    bare = state_dict(pos_embed=None)
    for family in ("supervised", "dinov3", "timm_rotary", "clip", "siglip", "mae"):
        with pytest.raises(ValueError, match="position|pre_norm|pool|registers|class_token"):
            load_pretrained(bare, family, num_heads=4, image_size=32)
    # timm's own rotary networks have registers and no class token, DINOv3 has both.
    registers = {"pos_embed": None, "reg_token": (1, 4, 32)}
    model, _, found = load_on_host(state_dict(cls_token=None, **registers), num_heads=2)
    assert (found.family.name, model.rotary, model.rotary_grid) == ("timm_rotary", "eva02", 16)
    model, _, found = load_on_host(state_dict(**registers), num_heads=2)
    assert (found.family.name, model.rotary) == ("dinov3", "dinov3")


def test_learned_parts_are_never_dropped_in_silence():
    """A head of visual words is left out and said; a buffer's name elsewhere is an error."""
    state = state_dict(**{"lm_head.weight": (9, 32), "lm_head.bias": (9,)})
    assert load_on_host(state, num_heads=4)[2].left_out == ("lm_head.* (2 names)",)
    for name in ("rope.weight", "blocks.0.mlp.k_bias", "head.bias_mask", "relative_position_index"):
        with pytest.raises(ValueError, match=f"not used: {name}"):
            load_pretrained(state_dict(**{name: (3,)}), num_heads=4)


def test_deit3_may_be_a_rotary_network():
    scales = {f"blocks.0.gamma_{i}": (32,) for i in (1, 2)}
    with pytest.warns(UserWarning, match="rotary: taken for DeiT III.*vit_.*_rope_ape_224"):
        found = load_on_host(state_dict(4, **scales), num_heads=4)[2]
    assert found.family.name == "deit3"


def test_a_gated_network_of_timm_may_be_rotary():
    plain = {f"blocks.0.mlp.fc1.{leaf}": None for leaf in ("weight", "bias")}
    gate = {f"blocks.0.mlp.fc1_{x}.weight": (128, 32) for x in "gx"}
    gate |= {f"blocks.0.mlp.fc1_{x}.bias": (128,) for x in "gx"}
    state = state_dict(**plain, **gate)
    with pytest.warns(UserWarning, match="rotary: taken for none; timm's Eva .*rotary_grid=16"):
        model = load_on_host(state, num_heads=4)[0]
    assert (model.mlp, model.rotary) == ("swiglu", "none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_on_host(state, num_heads=4, rotary="none")
        fields = {"rotary": "eva02", "rotary_base": 10000.0, "rotary_grid": 16}
        assert load_on_host(state, num_heads=4, **fields)[0].rotary_grid == 16


def test_openais_gelu_is_said_where_nothing_tells_it():
    norm = {"norm_pre.weight": (32,), "norm_pre.bias": (32,)}
    state = state_dict(**norm, **{"patch_embed.proj.bias": None})
    with pytest.warns(UserWarning, match="activation: taken for OpenAI's quick_gelu"):
        assert load_on_host(state, num_heads=4)[0].activation == "quick_gelu"
    assert load_on_host(state, num_heads=4, activation="gelu")[0].activation == "gelu"
