"""What tells a family from a file's names, fields and tables."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vit_jax_xfer.models.transformer.positions import sincos_2d
from vit_jax_xfer.pretrained.family import Evidence
from vit_jax_xfer.pretrained.reading import Fields


def is_sincos(evidence: Evidence, moco: bool = False) -> bool:
    """Whether the table is MAE's fixed one, or MoCo v3's, whose two halves are exchanged."""
    if evidence.fields["position"] != "learned" or not evidence.fields["class_position"]:
        return False
    table = evidence.reading.array("pos_embed")
    side = round(max(table.shape[1] - 1, 0) ** 0.5)
    if table.shape[2] % 4 or table.shape[1] != 1 + side * side:
        return False
    fixed = sincos_2d((side, side), table.shape[2])
    if moco:
        fixed = np.roll(fixed, fixed.shape[2] // 2, axis=2)
    return bool(np.allclose(table, fixed, atol=1e-4))


def has_fields(**wanted: Any) -> Callable[[Evidence], bool]:
    """Fits when the file has these fields."""

    def fits(evidence: Evidence) -> bool:
        return all(evidence.fields.get(name) == value for name, value in wanted.items())

    return fits


def is_beit(evidence: Evidence) -> bool:
    scaled = evidence.reading.has("blocks_0/layer_scale1")
    relative = evidence.fields["relative_bias"] != "none"
    return relative or (evidence.dialect == "hf_vit" and scaled)


def is_dinov3(evidence: Evidence) -> bool:
    fields = evidence.fields
    return (
        fields["position"] == "none"
        and fields["relative_bias"] == "none"
        and fields["registers"] > 0
    )


def is_dinov2(evidence: Evidence) -> bool:
    fields = evidence.fields
    scaled = evidence.reading.has("blocks_0/layer_scale1")
    if not scaled or fields["qk_norm"] or fields["position"] != "learned":
        return False
    if evidence.dialect == "hf_vit":  # a BEiT with absolute positions
        return False
    return fields["class_position"] or fields["registers"] > 0


def is_deit3(evidence: Evidence) -> bool:
    scaled = evidence.reading.has("blocks_0/layer_scale1")
    fields = evidence.fields
    return scaled and not fields["registers"] and fields.get("class_position") is False


def is_self_supervised(evidence: Evidence) -> bool:
    fields = evidence.fields
    return (
        evidence.headless
        and fields["position"] == "learned"
        and fields["class_token"]
        and not fields["pre_logits"]
    )


def is_flip(evidence: Evidence) -> bool:
    if evidence.dialect != "flax" or not is_sincos(evidence):
        return False
    return evidence.headless or not evidence.fields["head_bias"]


def is_mae(evidence: Evidence) -> bool:
    """With a decoder, or with its fixed table, or fine-tuned, with a norm after pooling."""
    if "decoder_embed.weight" in evidence.reading.state:
        return True
    if evidence.dialect == "timm" and evidence.reading.has("head_norm/scale"):
        return evidence.fields["position"] == "learned" and evidence.fields["class_token"]
    return evidence.dialect != "flax" and is_self_supervised(evidence) and is_sincos(evidence)


def is_moco_v3(evidence: Evidence) -> bool:
    """Told by its momentum encoder, or by its fixed table, which linear probes keep."""
    momentum = any("momentum_encoder" in name for name in evidence.beside)
    return momentum or (evidence.dialect == "timm" and is_sincos(evidence, moco=True))


def beit_layer_scale(evidence: Evidence) -> Fields:
    """Where LayerScale starts: 0.1 in the base size, 1e-5 in the large one."""
    return {"layer_scale": 1e-5 if evidence.fields["width"] >= 1024 else 0.1}


def refuse_post_norm(evidence: Evidence) -> None:
    """ValueError for EVA-02's enormous network: it norms after its branches, under these names."""
    fields = evidence.fields
    if fields["width"] == 1792 and fields["qkv_bias"] == "no_key":
        raise ValueError(
            "this is EVA-02 enormous, whose blocks norm after their branches; such blocks aren't "
            "built here, so it can't be loaded"
        )


def in_timm_names(resize: str) -> Callable[[Evidence], Fields]:
    """position_resize, for files in timm's names, which are the publisher's here."""
    return lambda evidence: {"position_resize": resize} if evidence.dialect == "timm" else {}


def dinov2_resize(evidence: Evidence) -> Fields:
    """Meta's files are told from timm's by their mask token."""
    if evidence.fields["registers"]:
        return {"position_resize": "bicubic_antialias"}
    publishers = evidence.dialect == "timm" and evidence.fields["mask_token"]
    return {"position_resize": "bicubic_offset"} if publishers else {}


def eva02_grid(evidence: Evidence) -> Fields:
    """Published ones, up to 448 pixels, count cells on the 16×16 grid of 224 and patches of 14."""
    return {"rotary_grid": 16} if evidence.fields["width"] in (192, 384, 768, 1024) else {}


def dinov3_bias(evidence: Evidence) -> Fields:
    """Meta's files hold a bias of the keys that is masked; others leave it out."""
    return {"qkv_bias": "masked_key"} if evidence.fields["qkv_bias"] == "full" else {}


def siglip_activation(evidence: Evidence) -> Fields:
    """big_vision's GELU; timm runs most of these files with the exact one."""
    return {} if evidence.dialect == "timm" else {"activation": "gelu_tanh"}
