"""Family "supervised": plain ViTs in the names of timm, DeiT and MAE's fine-tuned models.

Sources: the state dicts of timm's VisionTransformer, DeiT (2012.12877), MAE (2111.06377).
"""

from collections.abc import Mapping

import flax.linen as nn
import numpy as np

from vit_jax_xfer.models.patches import grid_of
from vit_jax_xfer.pretrained.family import Family, Fields
from vit_jax_xfer.pretrained.fields import (
    agree,
    count_blocks,
    fit_positions,
    heads,
    is_sincos,
    shape_of,
    stored_grid,
)
from vit_jax_xfer.pretrained.layout import CONV, LINEAR, PROJ_KERNEL, QKV_BIAS, QKV_KERNEL
from vit_jax_xfer.pretrained.names import Rule, State, affine, norm, rule

# Published widths whose heads are not 64 wide: SO400M, huge, giant, gigantic.
_WIDE_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}


def block_rules(ours: str, theirs: str) -> tuple[Rule, ...]:
    """The rules of a pre-norm block in timm's names."""
    return (
        *norm(f"{ours}/norm1", f"{theirs}.norm1"),
        *affine(f"{ours}/attention/qkv", f"{theirs}.attn.qkv", QKV_KERNEL, QKV_BIAS),
        *affine(f"{ours}/attention/proj", f"{theirs}.attn.proj", PROJ_KERNEL),
        *norm(f"{ours}/norm2", f"{theirs}.norm2"),
        *affine(f"{ours}/mlp/fc1", f"{theirs}.mlp.fc1", LINEAR),
        *affine(f"{ours}/mlp/fc2", f"{theirs}.mlp.fc2", LINEAR),
    )


RULES = (
    rule("cls_token", "cls_token"),
    rule("pos_embed", "pos_embed"),
    *affine("patch_embed", "patch_embed.proj", CONV),
    *block_rules("blocks_{i}", "blocks.{i}"),
    *norm("norm", "norm"),
    *norm("head_norm", "fc_norm"),
    *affine("head", "head", LINEAR),
)


def has_plain_names(state: Mapping[str, np.ndarray]) -> bool:
    """Whether the names that every ViT in timm's naming has are there."""
    needed = ("pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight")
    return all(name in state for name in needed)


def vit_fields(state: State, given: Fields) -> Fields:
    """A VisionTransformer's fields from a file in timm's names and what the caller gave.

    The file tells the sizes; pool, position_resize and norm_eps are defaults that fit such files.
    ValueError naming a field that shapes don't tell, or that disagrees with them.
    """
    width, _, patch_size, _ = shape_of(state, "patch_embed.proj.weight", 4)
    prefix_tokens = int("cls_token" in state)
    tokens = shape_of(state, "pos_embed", 3)[1]
    h, w = stored_grid(tokens, prefix_tokens, given.get("image_size"), patch_size)
    told = {
        "patch_size": patch_size,
        "width": width,
        "depth": count_blocks(state, "blocks.{i}."),
        "mlp_dim": shape_of(state, "blocks.0.mlp.fc1.weight", 2)[0],
        "class_token": bool(prefix_tokens),
        "position": "learned",
    }
    defaults = {
        "image_size": h * patch_size if h == w else (h * patch_size, w * patch_size),
        "norm_eps": 1e-6,
        **_pooling(state),
    }
    return {
        **defaults,
        **agree(told, given),
        "num_heads": heads("num_heads", given.get("num_heads"), width, usual_heads(width)),
        "num_classes": _classes(state, given.get("num_classes")),
    }


def usual_heads(width: int) -> int | None:
    """Heads of the published models of this width; None where sizes differ between publishers."""
    if width < 192 or width % 64:
        return _WIDE_HEADS.get(width)
    return _WIDE_HEADS.get(width, width // 64)


def fit_vit(state: State, model: nn.Module) -> State:
    """The file with its positions on the model's grid, and no head if the model has none."""
    grid = grid_of(model.image_size, model.patch_size)
    tokens, prefix_tokens = state["pos_embed"].shape[1], int(model.class_token)
    old = stored_grid(tokens, prefix_tokens, model.image_size, model.patch_size)
    table = fit_positions(state["pos_embed"], old, grid, prefix_tokens, model.position_resize)
    kept = {**state, "pos_embed": table}
    if not model.num_classes:
        kept = {name: x for name, x in kept.items() if name not in ("head.weight", "head.bias")}
    return kept


def _pooling(state: State) -> Fields:
    """What the names tell of pooling. fc_norm is MAE's fine-tuning, whose resizing is plain."""
    if "fc_norm.weight" in state:
        return {"pool": "avg", "position_resize": "bicubic"}
    if "cls_token" in state:
        return {"pool": "cls", "position_resize": "bicubic_antialias"}
    return {"pool": "avg", "pool_norm": False, "position_resize": "bicubic_antialias"}


def _classes(state: State, given: int | None) -> int:
    """The classes of the file's head; 0 where there is none or the caller drops it."""
    found = shape_of(state, "head.weight", 2)[0] if "head.weight" in state else 0
    if given not in (None, 0, found):
        what = f"a head of {found} classes" if found else "no head"
        raise ValueError(f"num_classes: got {given}, but the file has {what}; 0 loads without one")
    return found if given is None else given


def _recognises(state: Mapping[str, np.ndarray]) -> bool:
    """A plain ViT that is not MAE's pre-trained encoder."""
    return has_plain_names(state) and ("head.weight" in state or not is_sincos(state["pos_embed"]))


def _plan(state: State, given: Fields) -> tuple[nn.Module, State]:
    from vit_jax_xfer.models.registry import build
    from vit_jax_xfer.models.vit import VisionTransformer

    model = build(VisionTransformer, vit_fields(state, given))
    return model, fit_vit(state, model)


FAMILY = Family(name="supervised", recognises=_recognises, plan=_plan, rules=RULES)
