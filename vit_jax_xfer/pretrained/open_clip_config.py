"""open_clip_config.json: what a folder of open_clip says of its image tower and its images.

Source: open_clip 3.3, `CLIPVisionCfg`, `PreprocessCfg` and the towers and transforms made of them.
"""

from collections.abc import Mapping
from typing import Any

from vit_jax_xfer.models.preprocessing import CLIP, Preprocessing
from vit_jax_xfer.pretrained.folder_config import (
    FolderConfig,
    Statement,
    number,
    size_of_image,
    size_of_patch,
)
from vit_jax_xfer.pretrained.timm_config import read_timm

FILE = "open_clip_config.json"
# Parts of a tower that no network here has, off by default.
_UNKNOWN_PARTS = (
    "attentional_pool",
    "block_type",
    "qk_norm",
    "scaled_cosine_attn",
    "scale_heads",
    "scale_attn_inner",
    "scale_attn",
    "scale_fc",
)
_POOLS = {"tok": "cls", "avg": "avg"}
_TIMM_POOLS = {"token": "cls", "avg": "avg", "map": "map"}
_CROP_MODES = {"shortest": "center", "longest": "border", "squash": "squash"}


def read_open_clip(config: Mapping[str, Any]) -> FolderConfig:
    """What an open_clip_config.json says of the image tower in the folder.

    ValueError naming the key that is missing or asks for what no network here has.
    """
    model = _object(config, "model_cfg")
    tower = _object(model, "vision_cfg")
    if tower.get("timm_model_name"):
        return _timm_tower(model, tower)
    if not isinstance(tower.get("layers", 12), int):
        raise ValueError(f"{FILE}: layers is {tower['layers']!r}, a ResNet's; no ViT here is one")
    for key in _UNKNOWN_PARTS:
        if tower.get(key) and (key, tower[key]) != ("block_type", "default"):
            raise ValueError(f"{FILE}: {key} is {tower[key]!r}, which no network here has")
    pool = tower.get("pool_type", "tok")
    if pool not in _POOLS:
        raise ValueError(f"{FILE}: pool_type is {pool!r}, expected {' or '.join(_POOLS)}")
    width, head = (_whole(tower, key, usual) for key, usual in (("width", 768), ("head_width", 64)))
    after = pool == "avg" and bool(tower.get("final_ln_after_pool"))
    fields = {
        "num_heads": width // head,
        "norm_eps": _epsilon(tower),
        "activation": _activation(model, tower),
        "pool": _POOLS[pool],
        "pool_norm": after,
    }
    size = size_of_image("image_size", tower.get("image_size", 224), FILE)
    statements = _statements(model, tower, width)
    renames = {"norm.": "fc_norm."} if after else {}
    return FolderConfig(fields, size, statements, FILE, renames)


def open_clip_preprocessing(config: Mapping[str, Any], size: Any) -> Preprocessing:
    """How open_clip prepares images by this file, at the size of the network's.

    ValueError naming the key of what it doesn't do.
    """
    said = {key: value for key, value in _object(config, "preprocess_cfg", {}).items()}
    said = {key: value for key, value in said.items() if value is not None}
    if said.get("mode", "RGB") != "RGB":
        raise ValueError(f"{FILE}: mode is {said['mode']!r}, expected RGB")
    mode = said.get("resize_mode", "shortest")
    if mode not in _CROP_MODES:
        raise ValueError(f"{FILE}: resize_mode is {mode!r}, expected {', '.join(_CROP_MODES)}")
    size = size_of_image("image_size", size, FILE)
    bilinear = said.get("interpolation") == "bilinear"
    if mode == "shortest" and isinstance(size, tuple):
        bilinear = False  # its transform for rectangles is always bicubic
    colour = said.get("fill_color", 0)
    mean, std = (
        (said[key],) * 3 if isinstance(said.get(key), int | float) else said.get(key, usual)
        for key, usual in zip(("mean", "std"), CLIP, strict=True)
    )
    return Preprocessing(
        mean,
        std,
        interpolation="bilinear" if bilinear else "bicubic",
        crop=1.0,
        crop_mode=_CROP_MODES[mode],
        size=size,
        fill=(colour,) * 3 if mode == "longest" else None,
    )


def _timm_tower(model: Mapping[str, Any], tower: Mapping[str, Any]) -> FolderConfig:
    """A network of timm's with its own projection, or none."""
    projection = tower.get("timm_proj", "linear")
    if projection not in (None, "", "none"):
        raise ValueError(
            f"{FILE}: timm_proj is {projection!r}, a projection beside timm's network, which isn't "
            "read; save the network's own weights (visual.trunk) and load these"
        )
    said: dict[str, Any] = {
        "architecture": tower["timm_model_name"],
        "num_classes": 0 if projection == "none" else model.get("embed_dim"),
    }
    if tower.get("timm_pool", "avg"):
        said["global_pool"] = tower.get("timm_pool", "avg")
    return read_timm({key: value for key, value in said.items() if value is not None})


def _statements(
    model: Mapping[str, Any], tower: Mapping[str, Any], width: int
) -> tuple[Statement, ...]:
    """What the weights must confirm."""
    ratio = number("mlp_ratio", tower.get("mlp_ratio", 4.0), FILE)
    patch = size_of_patch("patch_size", tower.get("patch_size", 16), FILE)
    said = [
        Statement("width", "width", width),
        Statement("layers", "depth", tower.get("layers", 12)),
        Statement("mlp_ratio", "MLP width", int(width * ratio), ratio),
        Statement("patch_size", "patch size", patch),
        Statement("ls_init_value", "LayerScale", tower.get("ls_init_value") is not None),
        Statement("no_ln_pre", "a norm before the blocks", not tower.get("no_ln_pre", False)),
    ]
    if model.get("embed_dim") is not None:
        said.append(Statement("embed_dim", "projection width", model["embed_dim"]))
    return tuple(said)


def _activation(model: Mapping[str, Any], tower: Mapping[str, Any]) -> str:
    more = tower.get("act_kwargs")
    if model.get("quick_gelu"):
        if more:
            raise ValueError(f"{FILE}: act_kwargs is {more!r} beside quick_gelu, which takes none")
        return "quick_gelu"
    if more in (None, {}, {"approximate": "none"}):
        return "gelu"
    if more == {"approximate": "tanh"}:
        return "gelu_tanh"
    raise ValueError(f"{FILE}: act_kwargs is {more!r}, expected {{'approximate': 'tanh'}}")


def _epsilon(tower: Mapping[str, Any]) -> float:
    more = dict(_object({"norm_kwargs": tower.get("norm_kwargs") or {}}, "norm_kwargs"))
    epsilon = number("norm_kwargs.eps", more.pop("eps", 1e-5), FILE)
    if more:
        raise ValueError(f"{FILE}: norm_kwargs is {tower['norm_kwargs']!r}, expected eps alone")
    return epsilon


def _whole(tower: Mapping[str, Any], key: str, usual: int) -> int:
    found = tower.get(key, usual)
    if type(found) is not int or found < 1:
        raise ValueError(f"{FILE}: {key} is {found!r}, expected a whole number above 0")
    return found


def _object(config: Mapping[str, Any], key: str, usual: Any = None) -> Mapping[str, Any]:
    found = config.get(key, usual)
    if not isinstance(found, Mapping):
        raise ValueError(f"{FILE}: {key} is {found!r}, expected an object")
    return found
