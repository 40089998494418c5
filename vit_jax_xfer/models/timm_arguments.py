"""timm's arguments of a vision transformer → fields of ours, all of them or an error.

Its classes VisionTransformer, Eva and Beit have words of their own for the same parts; below they
are brought to VisionTransformer's first. An argument that no network here has is an error that
names it, and so is one that is unknown, since a later timm may compute something else by it.
Source: timm 1.0.31.
"""

from collections.abc import Mapping
from typing import Any

Arguments = Mapping[str, Any]

_COMMON: dict[str, Any] = {
    "img_size": 224,
    "patch_size": 16,
    "in_chans": 3,
    "num_classes": 1000,
    "embed_dim": 768,
    "depth": 12,
    "num_heads": 12,
    "mlp_ratio": 4.0,
    "qkv_bias": True,
    "init_values": None,
    "norm_layer": "layernorm",
    "norm_eps": 1e-6,
}
_VIT: dict[str, Any] = {
    **_COMMON,
    "global_pool": "token",
    "class_token": True,
    "distilled": False,
    "pos_embed": "learn",
    "no_embed_class": False,
    "reg_tokens": 0,
    "pre_norm": False,
    "fc_norm": None,
    "pool_include_prefix": False,
    "qk_norm": False,
    "scale_attn_norm": False,
    "scale_mlp_norm": False,
    "act_layer": "gelu",
    "mlp_layer": "mlp",
}
_EVA: dict[str, Any] = {
    **_VIT,
    "global_pool": "avg",
    "swiglu_mlp": False,
    "swiglu_align_to": 0,
    "use_rot_pos_emb": False,
    "rope_type": "cat",
    "rope_temperature": 10000.0,
    "rope_rotate_half": False,
    "ref_feat_shape": None,
    "use_abs_pos_emb": True,
}
_BEIT: dict[str, Any] = {
    **_EVA,
    "use_rel_pos_bias": False,
    "use_shared_rel_pos_bias": False,
}
_DEFAULTS = {"vit": _VIT, "eva": _EVA, "beit": _BEIT}

# Words of Eva and Beit for what VisionTransformer calls otherwise.
_SAME = {
    "num_reg_tokens": "reg_tokens",
    "use_fc_norm": "fc_norm",
    "use_pre_transformer_norm": "pre_norm",
    "scale_mlp": "scale_mlp_norm",
    "scale_attn_inner": "scale_attn_norm",
}
# Of training, or of how a network runs and is laid out, which no output hangs on.
_WITHOUT_EFFECT = frozenset(
    [
        "drop_rate",
        "pos_drop_rate",
        "patch_drop_rate",
        "proj_drop_rate",
        "attn_drop_rate",
        "drop_path_rate",
        "weight_init",
        "fix_init",
        "dynamic_img_size",
        "dynamic_img_pad",
        "strict_img_size",
        "head_init_scale",
        "rope_shift_coords",
        "rope_jitter_coords",
        "rope_rescale_coords",
        "qkv_fused",
        "pretrained_strict",
        "scriptable",
        "exportable",
        "no_jit",
        "features_only",
    ]
)
# The only value that networks here have, and what another one would be.
_ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "block_fn": (("Block",), "blocks of another kind"),
    "attn_layer": (("", "attn", "Attention"), "attention of another kind"),
    "attn_type": (("eva",), "rotary positions of another kind"),
    "norm_layer": (("layernorm", "LayerNorm"), "norms of another kind"),
    "embed_norm_layer": ((None,), "a norm inside of the patch embedding"),
    "embed_layer": (("PatchEmbed",), "a patch embedding of another kind"),
    "final_norm": ((True,), "no norm after the blocks"),
    "use_post_transformer_norm": ((None,), "the last norm in another place"),
    "use_post_norm": ((False,), "norms after the branches"),
    "attn_only_layer_scale": ((False,), "a LayerScale of the attention alone"),
    "num_kv_heads": ((None,), "keys and values that heads share"),
    "gated_attn": ((False,), "gated attention"),
    "proj_bias": ((True,), "projections without bias"),
    "rope_grid_indexing": (("ij",), "rotary positions of another kind"),
    "rope_grid_offset": ((0, 0.0), "rotary positions of another kind"),
    "rope_mrope_section": ((None,), "rotary positions of another kind"),
    "attn_pool_num_heads": ((None,), "attention pooling with heads of its own"),
    "attn_pool_mlp_ratio": ((None,), "attention pooling with an MLP of its own"),
    "use_naflex": ((None, False), "NaFlexVit's embedding"),
}
_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "quickgelu": "quick_gelu",
}
_POOLS = {
    "token": "cls",
    "avg": "avg",
    "max": "max_patches",
    "avgmax": "avg_max",
    "map": "map",
    "": "none",
}
_GATED = {"swiglupacked": True, "mlp": False}


_NUMBERS = ("in_chans", "embed_dim", "depth", "num_heads", "num_classes", "reg_tokens")


def vit_fields(arguments: Arguments) -> dict[str, Any]:
    """A VisionTransformer's fields from timm's arguments, with "kind": vit | eva | beit.

    ValueError naming the argument that no network here has.
    """
    kind = arguments.get("kind", "vit")
    given = {_SAME.get(key, key): value for key, value in arguments.items() if key != "kind"}
    _refuse(given, _DEFAULTS[kind])
    full = {**_DEFAULTS[kind], **given}
    fields = {**_sizes(full, kind), **_tokens(full), **_blocks(full, kind), **_head(full, kind)}
    return {**fields, **_positions(full), "position_resize": "bicubic_antialias"}


def _refuse(given: Arguments, known: Arguments) -> None:
    for key, value in given.items():
        if key in _ONLY:
            allowed, what = _ONLY[key]
            if value not in allowed:
                raise ValueError(f"{key}={value!r}: {what}, which no network here has")
        elif key not in known and key not in _WITHOUT_EFFECT:
            raise ValueError(f"{key}={value!r}: an argument that is not known here")


def _sizes(full: Arguments, kind: str) -> dict[str, Any]:
    for key in (*_NUMBERS, "mlp_ratio"):
        allowed = int | float if key == "mlp_ratio" else int
        if isinstance(full[key], bool) or not isinstance(full[key], allowed) or full[key] < 0:
            raise ValueError(f"{key}={full[key]!r}: expected a number")
    width, patch = full["embed_dim"], full["patch_size"]
    size = full["img_size"]
    size = tuple(size) if isinstance(size, list | tuple) else size
    if isinstance(patch, list | tuple):
        if len(set(patch)) != 1:
            raise ValueError(f"patch_size={patch!r}: networks here have square patches")
        patch = patch[0]
    return {
        "image_size": size[0] if isinstance(size, tuple) and len(set(size)) == 1 else size,
        "patch_size": patch,
        "in_channels": full["in_chans"],
        "width": width,
        "depth": full["depth"],
        "num_heads": full["num_heads"],
        "mlp_dim": _mlp_dim(full, kind),
        "num_classes": full["num_classes"],
        "norm_eps": full["norm_eps"],
    }


def _mlp_dim(full: Arguments, kind: str) -> int:
    hidden = int(full["embed_dim"] * full["mlp_ratio"])
    if kind == "vit":
        return hidden // 2 if _packed(full) else hidden
    step = full["swiglu_align_to"]
    return hidden + -hidden % step if step and full["swiglu_mlp"] else hidden


def _packed(full: Arguments) -> bool:
    """Whether mlp_layer is the gated one of which `mlp_ratio` counts both halves."""
    layer = str(full["mlp_layer"]).lower()
    if layer not in _GATED:
        raise ValueError(f"mlp_layer={full['mlp_layer']!r}: an MLP that no network here has")
    return _GATED[layer]


def _tokens(full: Arguments) -> dict[str, Any]:
    registers, placed = full["reg_tokens"], not full["no_embed_class"]
    learned = full["pos_embed"] == "learn" and full.get("use_abs_pos_emb", True)
    return {
        "class_token": full["class_token"],
        "distillation_token": full["distilled"],
        "registers": registers,
        "position": "learned" if learned else "none",
        "class_position": placed or not full["class_token"] or not learned,
        "register_position": bool(placed and registers and learned),
        "pre_norm": full["pre_norm"],
        "patch_bias": not full["pre_norm"],
    }


def _blocks(full: Arguments, kind: str) -> dict[str, Any]:
    mlp, activation = "plain", str(full["act_layer"]).lower()
    if kind != "vit" and full["swiglu_mlp"]:
        mlp = "swiglu"  # its gate has a SiLU of its own
    elif kind == "vit" and _packed(full):
        mlp = "swiglu" if activation == "silu" else "geglu"
    if mlp != "swiglu" and activation not in _ACTIVATIONS:
        raise ValueError(f"act_layer={full['act_layer']!r}: an activation that no network here has")
    bias = "full" if kind == "vit" else "no_key"
    scale = full["init_values"]
    return {
        "qkv_bias": bias if full["qkv_bias"] else "none",
        "qk_norm": full["qk_norm"],
        "attention_norm": full["scale_attn_norm"],
        "mlp_norm": full["scale_mlp_norm"],
        "mlp": mlp,
        "activation": "gelu" if mlp == "swiglu" else _ACTIVATIONS[activation],
        "layer_scale": (scale or None) if kind == "vit" else scale,
    }


def _head(full: Arguments, kind: str) -> dict[str, Any]:
    pool = full["global_pool"]
    if pool not in _POOLS:
        raise ValueError(f"global_pool={pool!r}: a pooling that no network here has")
    after = full["fc_norm"]
    if after is None:
        after = pool in ("avg", "avgmax", "max")
    found = _POOLS[pool]
    if full["pool_include_prefix"] and pool in ("avg", "max", "avgmax"):
        if pool != "avg":
            raise ValueError(f"pool_include_prefix=True: of global_pool={pool!r} no network has it")
        found = "avg_all"
    elif pool == "map" and kind == "vit" and not full["pool_include_prefix"]:
        found = "map_patches" if full["reg_tokens"] or full["class_token"] else "map"
    return {"pool": found, "pool_norm": None if after == (found == "avg") else after}


def _positions(full: Arguments) -> dict[str, Any]:
    """Positions that are computed, and those that are a bias."""
    if full.get("use_rel_pos_bias") or full.get("use_shared_rel_pos_bias"):
        return {"relative_bias": "block" if full["use_rel_pos_bias"] else "shared"}
    if not full.get("use_rot_pos_emb"):
        return {"relative_bias": "none", "rotary": "none"}
    kind, half = full["rope_type"], full["rope_rotate_half"]
    if (kind, half) not in (("cat", False), ("dinov3", True)):
        raise ValueError(f"rope_type={kind!r}: rotary positions of another kind")
    shape = full["ref_feat_shape"]
    if kind == "cat" and shape is not None and len(set(shape)) != 1:
        raise ValueError(f"ref_feat_shape={shape!r}: networks here count cells on a square")
    return {
        "rotary": "eva02" if kind == "cat" else "dinov3",
        "rotary_base": full["rope_temperature"],
        "rotary_grid": None if shape is None or kind != "cat" else shape[0],
    }
