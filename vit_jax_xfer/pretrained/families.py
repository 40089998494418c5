"""The families, in the order in which a file is tried: the most telling first."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from vit_jax_xfer.models.positions import sincos_2d
from vit_jax_xfer.models.preprocessing import CLIP, IMAGENET, INCEPTION, Channels, Preprocessing
from vit_jax_xfer.pretrained.family import Evidence, Family
from vit_jax_xfer.pretrained.reading import Fields


def _imagenet(crop: float = 0.875, interpolation: str = "bicubic") -> Preprocessing:
    return Preprocessing(*IMAGENET, crop=crop, interpolation=interpolation)


def _squashed(mean: Channels, std: Channels, interpolation: str = "bilinear") -> Preprocessing:
    return Preprocessing(mean, std, interpolation, crop=1.0, crop_mode="squash")


def _is_sincos(evidence: Evidence, moco: bool = False) -> bool:
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


def _has(**wanted: Any) -> Callable[[Evidence], bool]:
    """Fits when the file has these fields."""

    def fits(evidence: Evidence) -> bool:
        return all(evidence.fields.get(name) == value for name, value in wanted.items())

    return fits


def _beit(evidence: Evidence) -> bool:
    scaled = evidence.reading.has("blocks_0/layer_scale1")
    relative = evidence.fields["relative_bias"] != "none"
    return relative or (evidence.dialect == "hf_vit" and scaled)


def _dinov3(evidence: Evidence) -> bool:
    fields = evidence.fields
    return (
        fields["position"] == "none"
        and fields["relative_bias"] == "none"
        and fields["registers"] > 0
    )


def _dinov2(evidence: Evidence) -> bool:
    fields = evidence.fields
    scaled = evidence.reading.has("blocks_0/layer_scale1")
    if not scaled or fields["qk_norm"] or fields["position"] != "learned":
        return False
    if evidence.dialect == "hf_vit":  # a BEiT with absolute positions
        return False
    return fields["class_position"] or fields["registers"] > 0


def _deit3(evidence: Evidence) -> bool:
    scaled = evidence.reading.has("blocks_0/layer_scale1")
    fields = evidence.fields
    return scaled and not fields["registers"] and fields.get("class_position") is False


def _self_supervised(evidence: Evidence) -> bool:
    fields = evidence.fields
    return (
        evidence.headless
        and fields["position"] == "learned"
        and fields["class_token"]
        and not fields["pre_logits"]
    )


def _flip(evidence: Evidence) -> bool:
    if evidence.dialect != "flax" or not _is_sincos(evidence):
        return False
    return evidence.headless or not evidence.fields["head_bias"]


def _mae(evidence: Evidence) -> bool:
    """With a decoder, or with its fixed table, or fine-tuned, with a norm after pooling."""
    if "decoder_embed.weight" in evidence.reading.state:
        return True
    if evidence.dialect == "timm" and evidence.reading.has("head_norm/scale"):
        return evidence.fields["position"] == "learned" and evidence.fields["class_token"]
    return evidence.dialect != "flax" and _self_supervised(evidence) and _is_sincos(evidence)


def _moco_v3(evidence: Evidence) -> bool:
    """Told by its momentum encoder, or by its fixed table, which linear probes keep."""
    momentum = any("momentum_encoder" in name for name in evidence.beside)
    return momentum or (evidence.dialect == "timm" and _is_sincos(evidence, moco=True))


def _in_timm_names(resize: str) -> Callable[[Evidence], Fields]:
    """position_resize, for files in timm's names, which are the publisher's here."""
    return lambda evidence: {"position_resize": resize} if evidence.dialect == "timm" else {}


def _dinov2_resize(evidence: Evidence) -> Fields:
    """Meta's files are told from timm's by their mask token."""
    if evidence.fields["registers"]:
        return {"position_resize": "bicubic_antialias"}
    publishers = evidence.dialect == "timm" and evidence.fields["mask_token"]
    return {"position_resize": "bicubic_offset"} if publishers else {}


def _eva02_grid(evidence: Evidence) -> Fields:
    """Published ones, up to 448 pixels, count cells on the 16×16 grid of 224 and patches of 14."""
    return {"rotary_grid": 16} if evidence.fields["width"] in (192, 384, 768, 1024) else {}


def _dinov3_bias(evidence: Evidence) -> Fields:
    """Meta's files hold a bias of the keys that is masked; others leave it out."""
    return {"qkv_bias": "masked_key"} if evidence.fields["qkv_bias"] == "full" else {}


def _siglip_activation(evidence: Evidence) -> Fields:
    """big_vision's GELU; timm runs most of these files with the exact one."""
    return {} if evidence.dialect == "timm" else {"activation": "gelu_tanh"}


_EVA02 = Family(
    name="eva02",
    source="EVA-02 (2303.11331), EVA-CLIP (2303.15389)",
    fits=_has(position="learned", mlp="swiglu", qkv_bias="no_key"),
    needs={"mlp": "swiglu", "qkv_bias": "no_key"},
    defaults={"rotary": "eva02", "rotary_base": 10000.0, "position_resize": "bicubic"},
    choose=_eva02_grid,
    preprocessing=Preprocessing(*CLIP, crop=1.0),
    prefer=("q_bias", "inner_attn_ln", "ffn_ln", "w1", "w2", "w3"),
    timm=("q_bias",),
    packed=True,
    apart={"publisher": ("q_proj.weight",), "timm": ("q_proj",)},
)

_BEIT = Family(
    name="beit",
    needs={"qkv_bias": "no_key"},
    source="BEiT (2106.08254)",
    fits=_beit,
    preprocessing=Preprocessing(*INCEPTION),
    defaults={"layer_scale": 0.1},
    prefer=("gamma_", "q_bias"),
    timm=("gamma_", "q_bias"),
)

_DINO = Family(
    name="dino",
    source="DINO (2104.14294)",
    fits=_self_supervised,
    needs={"position": "learned", "class_token": True},
    choose=_in_timm_names("bicubic_offset"),
    preprocessing=_imagenet(),
)

_CLIP = Family(
    name="clip",
    source="CLIP (2103.00020), OpenCLIP (2212.07143)",
    fits=_has(pre_norm=True),
    needs={"pre_norm": True},
    # OpenAI's; OpenCLIP's own trainings take activation="gelu", which no name tells.
    defaults={"norm_eps": 1e-5, "activation": "quick_gelu"},
    preprocessing=Preprocessing(*CLIP, crop=1.0),
)

_SUPERVISED = Family(
    name="supervised",
    source="ViT (2010.11929), AugReg (2106.10270), and whatever timm trains",
    fits=lambda evidence: evidence.fields["position"] == "learned",
    needs={},
    preprocessing=_squashed(*INCEPTION),
)

_MAE = Family(
    name="mae",
    source="MAE (2111.06377)",
    fits=_mae,
    needs={"position": "learned", "class_token": True},
    choose=_in_timm_names("bicubic"),
    preprocessing=_imagenet(),
)

_ALL = (
    # Its fine-tuned files look like BEiT's; pass family="beitv2" for its preprocessing.
    dataclasses.replace(
        _BEIT,
        name="beitv2",
        source="BEiT v2 (2208.06366)",
        fits=lambda evidence: any(n.startswith("cls_pt_") for n in evidence.reading.state),
        defaults={"layer_scale": 1e-5},
        preprocessing=_imagenet(),
    ),
    _BEIT,
    _EVA02,
    Family(
        name="dinov3",
        source="DINOv3 (2508.10104)",
        fits=_dinov3,
        needs={"position": "none", "registers": True},
        defaults={
            "rotary": "dinov3",
            "rotary_base": 100.0,
            "norm_eps": 1e-5,
            "image_size": 224,
            "layer_scale": 1e-5,
        },
        choose=_dinov3_bias,
        heads={1280: 20, 4096: 32},
        preprocessing=_squashed(*IMAGENET),
        prefer=("storage_tokens", "ls1", "ls2", "w1", "w2", "w3"),
        timm=("gamma_", "q_bias", "fc1_g"),
    ),
    Family(
        name="siglip",
        source="SigLIP (2303.15343), SigLIP 2 (2502.14786)",
        fits=_has(pool="map"),
        needs={"pool": "map"},
        heads={1536: 16},
        choose=_siglip_activation,
        preprocessing=_squashed(*INCEPTION, interpolation="bicubic"),
    ),
    _CLIP,
    Family(
        name="dinov2",
        source="DINOv2 (2304.07193), with registers (2309.16588)",
        fits=_dinov2,
        needs={"position": "learned"},
        defaults={"layer_scale": 1e-5},
        choose=_dinov2_resize,
        preprocessing=_imagenet(),
        prefer=("register_tokens", "w12", "w3"),
        timm=("reg_token",),
        packed=True,
    ),
    Family(
        name="deit3",
        source="DeiT III (2204.07118)",
        fits=_deit3,
        needs={"class_position": False},
        defaults={"layer_scale": 1e-6},
        choose=_in_timm_names("bicubic"),
        preprocessing=_imagenet(crop=1.0),
        prefer=("gamma_",),
    ),
    Family(
        name="deit",
        source="DeiT (2012.12877)",
        fits=_has(distillation_token=True),
        needs={"position": "learned"},
        choose=_in_timm_names("bicubic"),
        preprocessing=_imagenet(),
    ),
    _MAE,
    Family(
        name="moco_v3",
        source="MoCo v3 (2104.02057)",
        fits=_moco_v3,
        needs={"position": "learned", "class_token": True},
        preprocessing=_imagenet(interpolation="bilinear"),
        heads={384: 12},  # its small one has 12 heads of 32
    ),
    Family(
        name="flip",
        source="FLIP (2212.00794)",
        fits=_flip,
        needs={"position": "learned", "class_token": True},
        defaults={"pool": "avg_all", "pool_norm": False, "activation": "gelu_tanh"},
        preprocessing=_imagenet(crop=1.0),
    ),
    dataclasses.replace(
        _DINO,
        name="ibot",
        source="iBOT (2111.07832)",
        fits=lambda evidence: _self_supervised(evidence) and evidence.fields["mask_token"],
        prefer=("masked_embed",),
    ),
    dataclasses.replace(
        _DINO, fits=lambda evidence: _self_supervised(evidence) and evidence.dialect != "flax"
    ),
    _SUPERVISED,
)

FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}
