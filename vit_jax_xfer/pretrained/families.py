"""The families, in the order in which a file is tried: the most telling first."""

import dataclasses

from vit_jax_xfer.models.preprocessing import CLIP, IMAGENET, INCEPTION, Channels, Preprocessing
from vit_jax_xfer.pretrained.evidence import (
    beit_layer_scale,
    dinov2_resize,
    dinov3_bias,
    eva02_grid,
    has_fields,
    in_timm_names,
    is_beit,
    is_deit3,
    is_dinov2,
    is_dinov3,
    is_flip,
    is_mae,
    is_moco_v3,
    is_self_supervised,
    siglip_activation,
)
from vit_jax_xfer.pretrained.family import Family


def _imagenet(crop: float = 0.875, interpolation: str = "bicubic") -> Preprocessing:
    return Preprocessing(*IMAGENET, crop=crop, interpolation=interpolation)


def _squashed(mean: Channels, std: Channels, interpolation: str = "bilinear") -> Preprocessing:
    return Preprocessing(mean, std, interpolation, crop=1.0, crop_mode="squash")


_EVA02 = Family(
    name="eva02",
    source="EVA-02 (2303.11331), EVA-CLIP (2303.15389)",
    fits=has_fields(position="learned", mlp="swiglu", qkv_bias="no_key"),
    needs={"mlp": "swiglu", "qkv_bias": "no_key"},
    defaults={"rotary": "eva02", "rotary_base": 10000.0, "position_resize": "bicubic"},
    choose=eva02_grid,
    preprocessing=Preprocessing(*CLIP, crop=1.0),
    prefer=("q_bias", "inner_attn_ln", "ffn_ln", "w1", "w2", "w3"),
    packed=True,
    apart={"publisher": ("q_proj.weight",), "timm": ("q_proj",)},
)

_BEIT = Family(
    name="beit",
    needs={"qkv_bias": "no_key"},
    source="BEiT (2106.08254)",
    fits=is_beit,
    preprocessing=Preprocessing(*INCEPTION),
    choose=beit_layer_scale,
    prefer=("gamma_", "q_bias"),
    timm=("gamma_", "q_bias"),
)

_DINO = Family(
    name="dino",
    source="DINO (2104.14294)",
    fits=is_self_supervised,
    needs={"position": "learned", "class_token": True},
    choose=in_timm_names("bicubic_offset"),
    preprocessing=_imagenet(),
)

_CLIP = Family(
    name="clip",
    source="CLIP (2103.00020), OpenCLIP (2212.07143)",
    fits=has_fields(pre_norm=True),
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
    fits=is_mae,
    needs={"position": "learned", "class_token": True},
    choose=in_timm_names("bicubic"),
    preprocessing=_imagenet(),
)

_ALL = (
    Family(
        name="filter_vit",
        source="FilterViT and DropoutViT (2410.22709)",
        fits=lambda evidence: False,  # another network, told by its names: filter_vit.py
        preprocessing=Preprocessing(*INCEPTION, interpolation="bilinear"),
    ),
    Family(
        name="lift",
        source="LiFT (2403.14625)",
        fits=lambda evidence: False,  # another network, told by its names: lift.py
        preprocessing=_imagenet(),
    ),
    # Its fine-tuned files look like BEiT's; pass family="beitv2" for its preprocessing.
    dataclasses.replace(
        _BEIT,
        name="beitv2",
        source="BEiT v2 (2208.06366)",
        fits=lambda evidence: any(n.startswith("cls_pt_") for n in evidence.reading.state),
        choose=lambda evidence: {"layer_scale": 1e-5},
        preprocessing=_imagenet(),
    ),
    _BEIT,
    _EVA02,
    Family(
        name="dinov3",
        source="DINOv3 (2508.10104)",
        fits=is_dinov3,
        needs={"position": "none", "registers": True},
        defaults={
            "rotary": "dinov3",
            "rotary_base": 100.0,
            "norm_eps": 1e-5,
            "image_size": 224,
            "layer_scale": 1e-5,
        },
        choose=dinov3_bias,
        heads={1280: 20, 4096: 32},
        preprocessing=_squashed(*IMAGENET),
        prefer=("storage_tokens", "ls1", "ls2", "w1", "w2", "w3"),
        timm=("gamma_", "q_bias", "fc1_g"),
    ),
    Family(
        name="siglip",
        source="SigLIP (2303.15343), SigLIP 2 (2502.14786)",
        fits=has_fields(pool="map"),
        needs={"pool": "map"},
        heads={1536: 16},
        choose=siglip_activation,
        preprocessing=_squashed(*INCEPTION, interpolation="bicubic"),
    ),
    _CLIP,
    Family(
        name="dinov2",
        source="DINOv2 (2304.07193), with registers (2309.16588)",
        fits=is_dinov2,
        needs={"position": "learned"},
        defaults={"layer_scale": 1e-5},
        choose=dinov2_resize,
        preprocessing=_imagenet(),
        prefer=("register_tokens", "w12", "w3"),
        timm=("reg_token",),
        packed=True,
    ),
    Family(
        name="deit3",
        source="DeiT III (2204.07118)",
        fits=is_deit3,
        needs={"class_position": False},
        defaults={"layer_scale": 1e-6},
        choose=in_timm_names("bicubic"),
        preprocessing=_imagenet(crop=1.0),
        prefer=("gamma_",),
    ),
    Family(
        name="deit",
        source="DeiT (2012.12877)",
        fits=has_fields(distillation_token=True),
        needs={"position": "learned"},
        choose=in_timm_names("bicubic"),
        preprocessing=_imagenet(),
    ),
    _MAE,
    Family(
        name="moco_v3",
        source="MoCo v3 (2104.02057)",
        fits=is_moco_v3,
        needs={"position": "learned", "class_token": True},
        preprocessing=_imagenet(interpolation="bilinear"),
        heads={384: 12},  # its small one has 12 heads of 32
    ),
    Family(
        name="flip",
        source="FLIP (2212.00794)",
        fits=is_flip,
        needs={"position": "learned", "class_token": True},
        defaults={"pool": "avg_all", "pool_norm": False, "activation": "gelu_tanh"},
        preprocessing=_imagenet(crop=1.0),
    ),
    dataclasses.replace(
        _DINO,
        name="ibot",
        source="iBOT (2111.07832)",
        fits=lambda evidence: is_self_supervised(evidence) and evidence.fields["mask_token"],
        prefer=("masked_embed",),
    ),
    dataclasses.replace(
        _DINO, fits=lambda evidence: is_self_supervised(evidence) and evidence.dialect != "flax"
    ),
    _SUPERVISED,
)

FAMILIES: dict[str, Family] = {family.name: family for family in _ALL}
