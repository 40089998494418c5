"""timm's vision transformers by name: the arguments, in timm's words, that a name stands for.

A name alone settles a network in timm: its heads, its activation, its pooling, what its blocks are.
So whoever reads a name of timm's, a folder's config.json or `create_model`, looks here. Those whose
networks are none of ours are listed too, by the argument that makes them so (timm_arguments.py).
Source: timm 1.0.31, its entry points of vision_transformer, deit, beit and eva.
"""

from typing import Any

Arguments = dict[str, Any]


def _size(embed_dim: int, depth: int, num_heads: int, mlp_ratio: float = 4.0) -> Arguments:
    return {
        "embed_dim": embed_dim,
        "depth": depth,
        "num_heads": num_heads,
        "mlp_ratio": mlp_ratio,
    }


_SIZES: dict[str, Arguments] = {
    "vit": _size(64, 6, 2, 3.0),
    "vit2": _size(64, 8, 2, 3.0),
    "vit3": _size(96, 9, 3, 2.0),
    "vit4": _size(96, 9, 3, 3.0),
    "tiny": _size(192, 12, 3),
    "xsmall": _size(256, 10, 4),
    "wee": _size(256, 14, 4, 5.0),
    "little": _size(320, 14, 5, 5.6),
    "small": _size(384, 12, 6),
    "small_plus": _size(384, 12, 6),
    "medium": _size(512, 12, 8),
    "mediumd": _size(512, 20, 8),
    "betwixt": _size(640, 12, 10),
    "base": _size(768, 12, 12),
    "so150m2": _size(832, 21, 13, 34 / 13),
    "so150m": _size(896, 18, 14, 2.572),
    "large": _size(1024, 24, 16),
    "so400m": _size(1152, 27, 16, 3.7362),
    "huge": _size(1280, 32, 16),
    "huge_plus": _size(1280, 32, 20),
    "giant": _size(1408, 40, 16, 48 / 11),
    "giantopt": _size(1536, 40, 16),
    "gigantic": _size(1664, 48, 16, 64 / 13),
    "enormous": _size(1792, 64, 16, 15360 / 1792),
    "7b": _size(4096, 40, 32, 2.0),
}
# Meta's giant is wider than Google's, and gated in DINOv2.
_META_GIANT: Arguments = _size(1536, 40, 24)
_GATED: Arguments = {
    **_META_GIANT,
    "mlp_ratio": 5.33334,
    "mlp_layer": "swiglupacked",
    "act_layer": "silu",
}


def _row(template: str, sizes: str, *shared: Arguments, **own: Any) -> dict[str, Arguments]:
    """{name: arguments}: `template` with each of "size/patch/image,image …".

    An image side that the template doesn't name is the network's own.
    """
    rows = {}
    for one in sizes.split():
        size, patch, images = one.split("/")
        for image in images.split(","):
            found = {**_SIZES[size], "patch_size": int(patch), "img_size": int(image)}
            for arguments in (*shared, own):
                found |= arguments
            rows[template.format(size, patch, image)] = found
    return rows


_OPEN: Arguments = {"no_embed_class": True}
_MEAN: Arguments = {"class_token": False, "global_pool": "avg", "fc_norm": False}
_THIN: Arguments = {**_MEAN, "qkv_bias": False, "init_values": 1e-6}
_MAP: Arguments = {"class_token": False, "global_pool": "map"}
_TANH: Arguments = {"act_layer": "gelu_tanh"}
_CLIP: Arguments = {"pre_norm": True, "norm_eps": 1e-5}
_QUICK: Arguments = {**_CLIP, "act_layer": "quick_gelu"}
_SCALED: Arguments = {"init_values": 1e-5}
_REGISTERS: Arguments = {**_OPEN, **_SCALED, "class_token": False, "global_pool": "avg"}
_DINOV2: Arguments = {**_SCALED}
_TIPS: Arguments = {**_OPEN, "init_values": 1.0, "reg_tokens": 1}
_SO150M2: Arguments = {
    **_SCALED,
    "class_token": False,
    "global_pool": "avg",
    "qkv_bias": False,
    "reg_tokens": 1,
}
_BEIT3: Arguments = {
    "scale_attn_norm": True,
    "scale_mlp_norm": True,
    "global_pool": "avg",
    "norm_eps": 1e-5,
}
_RADIO: Arguments = {**_OPEN, "final_norm": False}
_AIM: Arguments = {"norm_layer": "rmsnorm", "proj_bias": False, "act_layer": "silu"}
_XP: Arguments = {**_OPEN, "norm_layer": "rmsnorm", "block_fn": "ParallelScalingBlock"}

# SigLIP's files, and the same towers with a mean in place of the attention pooling.
_SIGLIP = (
    ("base/16/224,256,384,512 large/16/256,384 so400m/14/224,378,384", {}),
    ("base/32/256 large/16/512 so400m/16/256,384,512 giantopt/16/256,384", _TANH),
    ("so400m/14/448,896", {}),  # with a mean alone
)

_VIT = (
    _row(
        "vit_{}_patch{}_{}",
        "tiny/16/224,384 small/32/224,384 small/16/224,384 small/8/224 base/32/224,384 "
        "base/16/224,384 base/8/224 large/32/224,384 large/16/224,384 large/14/224 huge/14/224 "
        "giant/14/224 gigantic/14/224",
    ),
    _row("vit_{}_patch{}_{}_miil", "base/16/224", qkv_bias=False),
    _row("vit_{}_patch{}_plus_{}", "base/32/256 base/16/240", _size(896, 12, 14), _SCALED),
    _row("vit_{}_patch{}_36x1_{}", "small/16/224", _SCALED, depth=36),
    _row("vit_{}_patch{}_gap_{}", "medium/16/240,256,384 betwixt/16/256", _THIN),
    _row(
        "vit_{}_patch{}_gap_{}",
        "base/16/224 huge/14/224 huge/16/448 giant/16/224",
        _MEAN,
        num_heads=16,
    ),
    _row("deit_{}_patch{}_{}", "tiny/16/224 small/16/224 base/16/224,384"),
    _row(
        "deit_{}_distilled_patch{}_{}",
        "tiny/16/224 small/16/224 base/16/224,384",
        distilled=True,
    ),
    _row(
        "deit3_{}_patch{}_{}",
        "small/16/224,384 medium/16/224 base/16/224,384 large/16/224,384 huge/14/224",
        _OPEN,
        init_values=1e-6,
    ),
    _row("flexivit_{}", "small/16/240 base/16/240 large/16/240", _OPEN),
    _row("eva_{}_patch{}_{}", "large/14/196,336", global_pool="avg"),
    _row("beit3_{}_patch{}_{}", "base/16/224 large/16/224", _BEIT3),
    _row("beit3_{}_patch{}_{}", "giant/14/224,336", _BEIT3, mlp_ratio=4.3637),
    _row(
        "vit_{}_patch{}_clip_{}",
        "xsmall/16/224 medium/32/224 medium/16/224 betwixt/32/224 base/32/224,256,384,448 "
        "base/16/224,384 large/14/224,336 huge/14/224,336,378 giant/14/224 gigantic/14/224,378",
        _CLIP,
    ),
    _row("vit_{}_patch{}_plus_clip_{}", "base/16/240", _CLIP, _size(896, 12, 14)),
    _row(
        "vit_{}_patch{}_clip_quickgelu_{}",
        "base/32/224 base/16/224 large/14/224,336 huge/14/224,378 gigantic/14/224",
        _QUICK,
    ),
    _row("vit_{}_patch{}_dinov2", "small/14/518 base/14/518 large/14/518", _DINOV2),
    _row("vit_{}_patch{}_dinov2", "giant/14/518", _DINOV2, _GATED),
    _row(
        "vit_{}_patch{}_reg4_dinov2",
        "small/14/518 base/14/518 large/14/518",
        _DINOV2,
        _OPEN,
        reg_tokens=4,
    ),
    _row("vit_{}_patch{}_reg4_dinov2", "giant/14/518", _DINOV2, _OPEN, _GATED, reg_tokens=4),
    _row("vit_{}_patch{}_reg1_tipsv2", "base/14/448 large/14/448", _TIPS),
    _row("vit_{}_patch{}_reg1_tipsv2", "so400m/14/448", _TIPS, mlp_ratio=4304 / 1152),
    _row("vit_{}_patch{}_reg1_tipsv2", "giant/14/448", _TIPS, _GATED),
    *(_row("vit_{}_patch{}_siglip_{}", sizes, _MAP, more) for sizes, more in _SIGLIP[:2]),
    *(_row("vit_{}_patch{}_siglip_gap_{}", sizes, _MEAN, more) for sizes, more in _SIGLIP),
    _row(
        "vit_{}_patch{}_reg1_gap_{}",
        "wee/16/256 little/16/256 medium/16/256 betwixt/16/256",
        _REGISTERS,
        reg_tokens=1,
    ),
    _row(
        "vit_{}_patch{}_reg4_gap_{}",
        "little/16/256 medium/16/256 mediumd/16/256,384 betwixt/16/256,384",
        _REGISTERS,
        reg_tokens=4,
    ),
    _row(
        "vit_{}_patch{}_reg4_gap_{}",
        "base/16/256",
        _REGISTERS,
        reg_tokens=4,
        init_values=None,
    ),
    _row("vit_{}_patch{}_reg4_map_{}", "so150m/16/256", _MAP, reg_tokens=4),
    _row("vit_{}_patch{}_reg4_gap_{}", "so150m/16/256,384", _MEAN, reg_tokens=4),
    _row("vit_{}_patch{}_reg1_gap_{}", "so150m2/16/256,384,448", _SO150M2),
    _row("test_{}", "vit/16/160"),
    _row("test_{}", "vit2/16/160", _SCALED, class_token=False, global_pool="avg", reg_tokens=1),
    _row("test_{}", "vit3/16/160", _SCALED, _MAP, reg_tokens=1, pool_include_prefix=True),
)

# Networks that none here computes: each has the argument that makes it so.
_OTHERS = (
    _row("test_{}", "vit4/16/160", norm_layer="rmsnorm"),
    _row("vit_{}_patch{}_rpn_{}", "base/16/224", block_fn="ResPostBlock"),
    _row("vit_{}_patch{}_18x2_{}", "small/16/224 base/16/224", block_fn="ParallelThingsBlock"),
    _row("vit_{}_patch{}_xp_{}", "base/16/224 large/14/224 huge/14/224", _XP),
    _row("vit_d{}_patch{}_reg1_gap_{}", "wee/16/256 little/16/256", attn_layer="diff"),
    _row("vit_p{}_patch{}_reg1_gap_{}", "wee/16/256", block_fn="ParallelScalingBlock"),
    _row("vit_dp{}_patch{}_reg1_gap_{}", "wee/16/256", block_fn="DiffParallelScalingBlock"),
    _row("vit_intern300m_patch{1}_{2}", "large/14/448", final_norm=False),
    _row("vit_{}_patch{}_radio_v3", "base/16/512 large/16/512 huge/16/512", _RADIO),
    _row("vit_{}_patch{}_radio_v3", "giant/16/512", _RADIO, _META_GIANT),
    _row("vit_{}_patch{}_radio_v4", "so400m/16/512 huge/16/512", _RADIO),
    _row("aimv2_{}_patch{}_{}", "large/14/224,336,448 huge/14/224,336,448", _AIM),
    *(_row(f"aimv2_{n}b_patch{{1}}_{{2}}", "huge/14/224,336,448", _AIM) for n in (1, 3)),
)

_BEIT: Arguments = {"kind": "beit", "use_abs_pos_emb": False, "use_rel_pos_bias": True}
_EVA: Arguments = {"kind": "eva"}
_EVA02: Arguments = {
    **_EVA,
    "mlp_ratio": 8 / 3,
    "swiglu_mlp": True,
    "use_rot_pos_emb": True,
    "ref_feat_shape": (16, 16),
}
_NORMED: Arguments = {**_EVA02, "qkv_fused": False, "scale_mlp": True}
_TOKEN: Arguments = {"global_pool": "token"}
_ROPE_GAP: Arguments = {
    **_EVA,
    **_SCALED,
    "class_token": False,
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "ref_feat_shape": (16, 16),
}
_DINOV3: Arguments = {
    **_EVA,
    **_SCALED,
    "num_reg_tokens": 4,
    "use_rot_pos_emb": True,
    "use_abs_pos_emb": False,
    "rope_type": "dinov3",
    "rope_temperature": 100.0,
    "rope_rotate_half": True,
    "use_fc_norm": False,
    "norm_eps": 1e-5,
    "qkv_bias": False,
}
_ALIGNED: Arguments = {"swiglu_mlp": True, "swiglu_align_to": 8}
_ROPE: Arguments = {**_EVA, **_SCALED, "attn_type": "rope", "rope_grid_indexing": "xy"}

_EVA_ROWS = (
    _row("beit_{}_patch{}_{}", "base/16/224,384", _BEIT, init_values=0.1),
    _row("beit_{}_patch{}_{}", "large/16/224,384,512", _BEIT, _SCALED),
    _row("beitv2_{}_patch{}_{}", "base/16/224 large/16/224", _BEIT, _SCALED),
    _row("eva_{}_patch{}_{}", "giant/14/224,336,560", _EVA),
    _row("eva_{}_patch{}_clip_{}", "giant/14/224", _EVA, _TOKEN),
    _row("eva02_{}_patch{}_{}", "tiny/14/224,336 small/14/224,336", _EVA02),
    _row("eva02_{}_patch{}_{}", "base/14/224,448 large/14/224,448", _NORMED),
    _row(
        "eva02_{}_patch{}_clip_{}",
        "base/16/224 large/14/224,336",
        _NORMED,
        _TOKEN,
        scale_attn_inner=True,
    ),
    _row("eva02_{}_patch{}_clip_{}", "enormous/14/224", _EVA, _TOKEN, use_post_norm=True),
    _row("vit_{}_patch{}_rope_reg1_gap_{}", "medium/16/256", _ROPE_GAP, num_reg_tokens=1),
    _row("vit_{}_patch{}_rope_reg1_gap_{}", "base/16/256", _ROPE_GAP, num_reg_tokens=1),
    _row(
        "vit_{}_patch{}_rope_reg1_gap_{}",
        "mediumd/16/256",
        _ROPE_GAP,
        num_reg_tokens=1,
        qkv_bias=False,
    ),
    _row("vit_{}_patch{}_rope_reg4_gap_{}", "betwixt/16/256", _ROPE_GAP, num_reg_tokens=4),
    _row("vit_{}_patch{}_dinov3", "small/16/256 base/16/256 large/16/256", _DINOV3),
    _row("vit_{}_patch{}_dinov3", "small_plus/16/256 huge_plus/16/256", _DINOV3, _ALIGNED),
    _row("vit_{}_patch{}_dinov3", "7b/16/256", _DINOV3, _ALIGNED, swiglu_align_to=64),
    _row(
        "vit_{}_patch{}_dinov3_qkvb",
        "tiny/16/256 small/16/256 base/16/256 large/16/256",
        _DINOV3,
        qkv_bias=True,
    ),
    _row(
        "vit_{}_patch{}_dinov3_qkvb",
        "small_plus/16/256 huge_plus/16/256",
        _DINOV3,
        _ALIGNED,
        qkv_bias=True,
    ),
    _row(
        "vit_{}_patch{}_lingbot",
        "small/16/512 base/16/512 large/16/512",
        _DINOV3,
        _TOKEN,
        qkv_bias=True,
    ),
    _row(
        "vit_{}_patch{}_lingbot",
        "giant/16/512",
        _DINOV3,
        _TOKEN,
        _META_GIANT,
        _ALIGNED,
        mlp_ratio=8 / 3,
    ),
    *(
        _row(f"vit_{{}}_patch{{}}_{kind}_{{}}", "small/16/224 base/16/224 large/16/224", _ROPE)
        for kind in ("rope", "rope_mixed", "rope_ape", "rope_mixed_ape")
    ),
    _row(
        "vit_pe_core_{}_patch{}_{}",
        "tiny/16/384 small/16/384 base/16/224 large/14/336 gigantic/14/448",
        _ROPE,
    ),
    _row("vit_pe_lang_{}_patch{}_{}", "large/14/448 gigantic/14/448", _ROPE),
    _row(
        "vit_pe_spatial_{}_patch{}_{}",
        "tiny/16/512 small/16/512 base/16/512 large/14/448 gigantic/14/448",
        _ROPE,
    ),
    _row("vit_{}_patch{}_sapiens2", "base/16/1024 large/16/1024 huge/16/1024", _ROPE),
    _row("vit_{}_patch{}_sapiens2", "giant/16/1024", _ROPE),
    _row("vit_5b_patch{1}_sapiens2", "giant/16/1024", _ROPE),
)

ARCHITECTURES: dict[str, Arguments] = {
    name: arguments for row in (*_VIT, *_OTHERS, *_EVA_ROWS) for name, arguments in row.items()
}
