"""Published families through load_pretrained: equal to their publishers' own code."""

import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.outputs import assert_close
from vit_jax_xfer.pretrained.file_to_model import load_on_host

# case: the family that its names tell
CASES = {
    "dino/native": "dino",
    "dino/large": "dino",
    **{
        f"dinov2/{kind}_{size}": "dinov2"
        for kind in ("layerscale", "registers", "swiglu")
        for size in ("native", "large")
    },
    **{
        f"dinov3/{kind}_{size}": "dinov3"
        for kind in ("mlp", "swiglu")
        for size in ("native", "large")
    },
    "timm/beit": "beit",
    "timm/clip_prenorm": "clip",
    "timm/deit3_layerscale": "deit3",
    "timm/deit_distilled": "deit",
    "timm/eva02": "eva02",
    "timm/mae_gap": "mae",
    "timm/qknorm_registers": "supervised",
    "timm/siglip_map": "siglip",
    "timm/supervised_cls": "supervised",
    "timm/swiglu": "dinov2",  # but for its head, a giant of DINOv2
    "hf/beit": "beit",
    "hf/clip": "clip",
    "hf/deit": "deit",
    "hf/dinov2": "dinov2",
    "hf/dinov2_registers": "dinov2",
    "hf/dinov3": "dinov3",
    "hf/siglip": "siglip",
    "hf/vit": "supervised",
    "hf/vit_mae": "dino",  # but for its random positions, an encoder of MAE
}


@pytest.fixture(scope="module", params=CASES)
def outputs(request, golden_case):
    """(case, its arrays, what we extract, the family that was told)."""
    case = golden_case(request.param)
    model, variables, found = load_on_host(case.state, num_heads=3)
    out = vjx.extract(model, variables, case.arrays["image"], attention=True, qkv=True)
    return request.param, case, out, found.family.name


def test_the_family_is_told(outputs):
    name, _, _, family = outputs
    assert family == CASES[name]


def test_every_output_is_the_publishers(outputs):
    name, case, out, _ = outputs
    wanted = {key: array for key, array in case.arrays.items() if array.size and key != "image"}
    prefix = out.num_prefix_tokens
    batch, *_, width = out.patch_tokens.shape
    found = {
        **dict.fromkeys(("tokens", "tokens_normed", "last_hidden_state"), out.tokens),
        **dict.fromkeys(("registers", "storage"), out.tokens[:, 1:prefix]),
        "cls": out.cls,
        "patch": out.patch_tokens.reshape(batch, -1, width),
        "attn": out.attention,
        "logits": out.logits,
        "pooler_output": out.pooled,
        # Theirs flattens channels before heads.
        "key_descriptor": np.swapaxes(out.k[-1][:, prefix:], 2, 3).reshape(batch, -1, width),
    }
    if name == "hf/clip":  # Hugging Face's are before the last norm, ours after it
        norm = (case.state[f"post_layernorm.{leaf}"] for leaf in ("weight", "bias"))
        wanted["last_hidden_state"] = layer_norm(wanted["last_hidden_state"], *norm)
    for key, array in wanted.items():
        assert_close(found[key], array, key)


def layer_norm(x, scale, bias, eps=1e-5):
    x = x.astype(np.float64)
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt(x.var(-1, keepdims=True) + eps) * scale + bias


def test_every_case_is_here(shared):
    folders = [
        path
        for family in ("dino", "dinov2", "dinov3", "timm", "hf")
        for path in (shared / "golden" / family).iterdir()
    ]
    assert {f"{path.parent.name}/{path.name}" for path in folders} == set(CASES)
