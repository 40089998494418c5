"""The networks of published files, as fields of the VisionTransformer: what a name stands for.

Each is what `load_pretrained` makes of the publisher's own file, with fresh weights. Names are
timm's without image size and tag; where a publisher has self-supervised and fine-tuned files of
one name, BEiT's, the former end in the publisher's own word for it ("pt22k").
Sources: the papers beside each family; sizes, epsilons and heads from the publishers' code.
"""

from typing import Any

from vit_jax_xfer.models.preprocessing import CLIP, IMAGENET, INCEPTION, Preprocessing

Fields = dict[str, Any]


def _size(width: int, depth: int, num_heads: int) -> dict[str, int]:
    return {"width": width, "depth": depth, "num_heads": num_heads}


# Tiny to huge: DeiT (2012.12877) and ViT (2010.11929), table 1. Others are one family's.
SIZES: dict[str, dict[str, int]] = {
    "tiny": _size(192, 12, 3),
    "small": _size(384, 12, 6),
    "small_plus": _size(384, 12, 6),
    "medium": _size(512, 12, 8),
    "base": _size(768, 12, 12),
    "large": _size(1024, 24, 16),
    "so400m": _size(1152, 27, 16),
    "huge": _size(1280, 32, 16),
    "huge_plus": _size(1280, 32, 20),
    "giant": _size(1536, 40, 24),
    "giantopt": _size(1536, 40, 16),
    "gigantic": _size(1664, 48, 16),
    "7b": _size(4096, 40, 32),
}

# The publishers' own evaluation; docs/teachers.md has where each is from.
_RESIZED_MORE = Preprocessing(*IMAGENET)
_WHOLE = Preprocessing(*IMAGENET, crop=1.0)
_CLIP_IMAGES = Preprocessing(*CLIP, crop=1.0)
_SQUASHED = Preprocessing(*INCEPTION, crop=1.0, crop_mode="squash")


def _family(template: str, sizes: str, common: Fields, **own: Any) -> dict[str, Fields]:
    """{name: fields} of some sizes of a family: `template` with each of "small_patch16 …"."""
    found = {}
    for size in sizes.split():
        kind, patch = size.split("_patch")
        fields: Fields = {**SIZES[kind], "patch_size": int(patch), **common, **own}
        fields.setdefault("mlp_dim", 4 * fields["width"])
        fields.setdefault("image_size", 224)
        found[template.format(size)] = fields
    return found


# AugReg (2106.10270), fine-tuned on ImageNet-1k. Its JAX code has the tanh GELU, but timm and
# transformers run these weights with the exact one.
_AUGREG: Fields = {
    "position_resize": "bilinear_corners",
    "drop_remainder": True,
    "preprocessing": Preprocessing(
        *INCEPTION, crop=1.0, crop_mode="squash", interpolation="bilinear"
    ),
}
# DeiT (2012.12877) and DeiT III (2204.07118)
_DEIT: Fields = {"preprocessing": _RESIZED_MORE}
_DISTILLED: Fields = {**_DEIT, "distillation_token": True, "distillation_head": True}
_DEIT3: Fields = {"class_position": False, "layer_scale": 1e-6, "preprocessing": _WHOLE}

# MAE (2111.06377), its encoder; DINO (2104.14294); iBOT (2111.07832), the teacher; MoCo v3
# (2104.02057), whose small one has 12 heads
_MAE: Fields = {"num_classes": 0, "preprocessing": _RESIZED_MORE}
_DINO: Fields = {**_MAE, "position_resize": "bicubic_offset"}
_MOCO: Fields = {
    "num_classes": 0,
    "position_resize": "bicubic_antialias",
    "preprocessing": Preprocessing(*IMAGENET, interpolation="bilinear"),
}

# DINOv2 (2304.07193), with registers (2309.16588)
_DINOV2: Fields = {
    "num_classes": 0,
    "image_size": 518,
    "layer_scale": 1e-5,
    "mask_token": True,
    "position_resize": "bicubic_offset",
    "preprocessing": _RESIZED_MORE,
}
_REGISTERS: Fields = {
    **_DINOV2,
    "registers": 4,
    "position_resize": "bicubic_antialias",
}
_GATED: Fields = {"mlp": "swiglu", "mlp_dim": 4096}

# DINOv3 (2508.10104)
_DINOV3: Fields = {
    "num_classes": 0,
    "position": "none",
    "position_resize": "bicubic_antialias",
    "norm_eps": 1e-5,
    "layer_scale": 1e-5,
    "registers": 4,
    "mask_token": True,
    "qkv_bias": "masked_key",
    "rotary": "dinov3",
    "rotary_base": 100.0,
    "preprocessing": Preprocessing(
        *IMAGENET, crop=1.0, crop_mode="squash", interpolation="bilinear"
    ),
}

# OpenCLIP (2212.07143), whose own trainings have the exact GELU, and OpenAI's CLIP (2103.00020).
# Classes are the channels that images and texts share.
_OPENCLIP: Fields = {
    "head_bias": False,
    "patch_bias": False,
    "pre_norm": True,
    "norm_eps": 1e-5,
    "position_resize": "bicubic_antialias",
    "preprocessing": _CLIP_IMAGES,
}
_OPENAI: Fields = {**_OPENCLIP, "activation": "quick_gelu"}

# SigLIP (2303.15343) and SigLIP 2 (2502.14786)
_SIGLIP: Fields = {
    "num_classes": 0,
    "class_token": False,
    "pool": "map",
    "activation": "gelu_tanh",
    "position_resize": "bilinear_corners",
    "drop_remainder": True,
    "preprocessing": _SQUASHED,
}

# BEiT (2106.08254) and BEiT v2 (2208.06366): fine-tuned ones average patches and have a table in
# each block; pre-trained ones share one table and have a mask token.
_BEIT: Fields = {
    "position": "none",
    "position_resize": "bicubic_antialias",
    "pool": "avg",
    "relative_bias": "block",
    "qkv_bias": "no_key",
    "preprocessing": Preprocessing(*INCEPTION),
}
_PRETRAINED: Fields = {
    **_BEIT,
    "num_classes": 0,
    "pool": "cls",
    "relative_bias": "shared",
    "mask_token": True,
}

# EVA-02 (2303.11331) as pre-trained, and EVA-CLIP (2303.15389)
_EVA02: Fields = {
    "num_classes": 0,
    "mask_token": True,
    "mlp": "swiglu",
    "qkv_bias": "no_key",
    "rotary": "eva02",
    "rotary_base": 10000.0,
    "rotary_grid": 16,
    "preprocessing": _CLIP_IMAGES,
}
_NORMED: Fields = {**_EVA02, "mlp_norm": True}
_EVA_CLIP: Fields = {**_NORMED, "mask_token": False, "attention_norm": True}

_ALL = (
    _family(
        "vit_{}_augreg",
        "tiny_patch16 small_patch16 small_patch32 base_patch8 base_patch16 base_patch32 "
        "large_patch16",
        _AUGREG,
    ),
    _family("deit_{}", "tiny_patch16 small_patch16 base_patch16", _DEIT),
    *(
        _family(f"deit_{size}_distilled_patch16", f"{size}_patch16", _DISTILLED)
        for size in ("tiny", "small", "base")
    ),
    _family(
        "deit3_{}",
        "small_patch16 medium_patch16 base_patch16 large_patch16 huge_patch14",
        _DEIT3,
    ),
    _family("vit_{}_mae", "base_patch16 large_patch16 huge_patch14", _MAE),
    _family("vit_{}_dino", "small_patch8 small_patch16 base_patch8 base_patch16", _DINO),
    _family("vit_{}_ibot", "small_patch16 base_patch16 large_patch16", _DINO),
    _family("vit_{}_mocov3", "small_patch16", _MOCO, num_heads=12),
    _family("vit_{}_mocov3", "base_patch16", _MOCO),
    _family("vit_{}_dinov2", "small_patch14 base_patch14 large_patch14", _DINOV2),
    _family("vit_{}_dinov2", "giant_patch14", _DINOV2, **_GATED),
    _family("vit_{}_reg4_dinov2", "small_patch14 base_patch14 large_patch14", _REGISTERS),
    _family("vit_{}_reg4_dinov2", "giant_patch14", _REGISTERS, **_GATED),
    _family("vit_{}_dinov3", "small_patch16 base_patch16 large_patch16", _DINOV3),
    _family("vit_{}_dinov3", "small_plus_patch16", _DINOV3, mlp="swiglu"),
    _family("vit_{}_dinov3", "huge_plus_patch16", _DINOV3, mlp="swiglu"),
    _family("vit_{}_dinov3", "7b_patch16", _DINOV3, mlp="swiglu", mlp_dim=8192, qkv_bias="none"),
    _family("vit_{}_clip", "base_patch32 base_patch16", _OPENCLIP, num_classes=512),
    _family("vit_{}_clip", "large_patch14", _OPENCLIP, num_classes=768),
    _family("vit_{}_clip", "huge_patch14", _OPENCLIP, num_classes=1024),
    _family(
        "vit_{}_clip",
        "giant_patch14",
        _OPENCLIP,
        num_classes=1024,
        width=1408,
        num_heads=16,
        mlp_dim=6144,
    ),
    _family("vit_{}_clip", "gigantic_patch14", _OPENCLIP, num_classes=1280, mlp_dim=8192),
    _family("vit_{}_clip_quickgelu", "base_patch32 base_patch16", _OPENAI, num_classes=512),
    _family("vit_{}_clip_quickgelu", "large_patch14", _OPENAI, num_classes=768),
    _family("vit_{}_siglip", "base_patch16", _SIGLIP),
    _family("vit_{}_siglip", "base_patch32 large_patch16", _SIGLIP, image_size=256),
    _family("vit_{}_siglip", "giantopt_patch16", _SIGLIP, image_size=256),
    _family("vit_{}_siglip", "so400m_patch16", _SIGLIP, image_size=256, mlp_dim=4304),
    _family("vit_{}_siglip", "so400m_patch14", _SIGLIP, image_size=378, mlp_dim=4304),
    _family("beit_{}", "base_patch16", _BEIT, layer_scale=0.1),
    _family("beit_{}", "large_patch16", _BEIT, layer_scale=1e-5),
    _family("beit_{}_pt22k", "base_patch16", _PRETRAINED, layer_scale=0.1),
    _family("beit_{}_pt22k", "large_patch16", _PRETRAINED, layer_scale=1e-5),
    _family(
        "beitv2_{}",
        "base_patch16 large_patch16",
        _BEIT,
        layer_scale=1e-5,
        preprocessing=_RESIZED_MORE,
    ),
    _family(
        "beitv2_{}_pt1k",
        "base_patch16 large_patch16",
        _PRETRAINED,
        layer_scale=1e-5,
        preprocessing=_RESIZED_MORE,
    ),
    _family("eva02_{}", "tiny_patch14", _EVA02, mlp_dim=512),
    _family("eva02_{}", "small_patch14", _EVA02, mlp_dim=1024),
    _family("eva02_{}", "base_patch14", _NORMED, mlp_dim=2048),
    _family("eva02_{}", "large_patch14", _NORMED, mlp_dim=2730),
    _family("eva02_{}_clip", "base_patch16", _EVA_CLIP, mlp_dim=2048, num_classes=512),
    _family("eva02_{}_clip", "large_patch14", _EVA_CLIP, mlp_dim=2730, num_classes=768),
)

PUBLISHED: dict[str, Fields] = {name: fields for family in _ALL for name, fields in family.items()}
