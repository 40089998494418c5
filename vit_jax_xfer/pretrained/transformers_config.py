"""transformers' config.json, read wholly: what no shape tells, and what the weights must confirm.

Source: the configuration classes of transformers 5. A `model_type` that isn't known to compute what
a network here does is refused, because such networks share names with those that do.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from vit_jax_xfer.pretrained.folder_config import (
    FolderConfig,
    Statement,
    number,
    size_of_image,
    size_of_patch,
)
from vit_jax_xfer.pretrained.loading_notes import note

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}

# What the keys of most types mean that the weights show too: {key: fact}.
_SIZES = {
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "num_channels": "channels",
    "qkv_bias": "a bias of q, k and v",
}
_MLP = {"intermediate_size": "MLP width"}
_BEIT = {
    **_SIZES,
    **_MLP,
    "use_absolute_position_embeddings": "a table of positions",
    "use_relative_position_bias": "a relative bias in each block",
    "use_shared_relative_position_bias": "a shared relative bias",
}
_DINOV2 = {**_SIZES, "use_swiglu_ffn": "a gated MLP", "num_register_tokens": "registers"}
_DINOV3 = {
    **_SIZES,
    **_MLP,
    "use_gated_mlp": "a gated MLP",
    "num_register_tokens": "registers",
}
_MAE = {
    **_SIZES,
    **_MLP,
    "decoder_hidden_size": "decoder width",
    "decoder_num_hidden_layers": "decoder depth",
    "decoder_intermediate_size": "decoder MLP width",
}


class ModelType(NamedTuple):
    """A type whose networks are computed as a VisionTransformer is.

    shown: {key: what the weights show of it}. defaults: what transformers takes for keys that no
    shape tells where the file leaves them out.
    """

    shown: Mapping[str, str]
    defaults: Mapping[str, Any]


def _type(shown: Mapping[str, str], eps: float, heads: int = 12, act: str = "gelu") -> ModelType:
    return ModelType(
        shown, {"num_attention_heads": heads, "hidden_act": act, "layer_norm_eps": eps}
    )


_VITDET = {**_SIZES, "use_absolute_position_embeddings": "a table of positions"}

_VIT = _type({**_SIZES, **_MLP}, 1e-12)
_CLIP = _type({**_SIZES, **_MLP}, 1e-5, act="quick_gelu")
_SIGLIP = _type({**_SIZES, **_MLP}, 1e-6, act="gelu_pytorch_tanh")
_DINOV3_TYPE = _type(_DINOV3, 1e-5, heads=6)

TYPES: dict[str, ModelType] = {
    "vit": _VIT,
    "deit": _VIT,
    "ijepa": _VIT,
    "vit_msn": _type({**_SIZES, **_MLP}, 1e-6),
    "vit_mae": ModelType(_MAE, {**_VIT.defaults, "decoder_num_attention_heads": 16}),
    "beit": _type(_BEIT, 1e-12),
    "data2vec-vision": _type(_BEIT, 1e-12),
    "dinov2": _type(_DINOV2, 1e-6),
    "dinov2_with_registers": _type(_DINOV2, 1e-6),
    "dinov3_vit": ModelType(_DINOV3, {**_DINOV3_TYPE.defaults, "rope_theta": 100.0}),
    "clip_vision_model": _CLIP,
    "metaclip_2_vision_model": _CLIP,
    "chinese_clip_vision_model": _CLIP,
    "altclip_vision_model": _CLIP,
    "siglip_vision_model": _SIGLIP,
    "vitdet": _type(_VITDET, 1e-6),
}
# Those with a text tower beside: which type their vision_config is of.
TWO_TOWERS = {
    "clip": "clip_vision_model",
    "metaclip_2": "metaclip_2_vision_model",
    "chinese_clip": "chinese_clip_vision_model",
    "siglip": "siglip_vision_model",
}


def read_transformers(config: Mapping[str, Any], forced: bool = False) -> FolderConfig:
    """What a config.json of transformers says of the network in the folder.

    forced: whether the caller names the family, which takes a type that isn't known for that
    family's. ValueError naming the key whose value no network here has, and the type.
    """
    if config.get("quantization_config"):
        raise ValueError(
            "config.json: quantization_config: quantised weights are not read; save the network "
            "dequantised"
        )
    inner, where = vision_config(config)
    kind = _type_of(config, inner, forced)
    fields = network_fields({**(kind.defaults if kind else {}), **inner})
    size = size_of_image(where + "image_size", inner.get("image_size"))
    if kind is None:
        return FolderConfig(fields, size)
    fields |= _kind_of_gate(inner)
    statements = tuple(_statements(inner, where, kind, config))
    if kind.shown is _VITDET:
        fields |= _windows(inner, size)
        stored = size_of_image("pretrain_image_size", inner.get("pretrain_image_size", 224))
        positions = inner.get("use_absolute_position_embeddings", True)
        return FolderConfig(fields, stored if positions else None, statements, seen=size)
    return FolderConfig(fields, _stored_size(kind, inner, size), statements, seen=size)


def vision_config(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """The image tower's part of a configuration, and what stands before its keys in errors."""
    if not isinstance(config.get("model_type"), str | None):
        raise ValueError(f"config.json: model_type is {config['model_type']!r}, expected a name")
    whole = {} if config.get("model_type") in TWO_TOWERS else config
    inner = whole if config.get("vision_config") is None else config["vision_config"]
    if not isinstance(inner, Mapping):
        raise ValueError(f"config.json: vision_config is {inner!r}, expected an object")
    if not isinstance(inner.get("model_type"), str | None):
        raise ValueError(f"config.json: model_type is {inner['model_type']!r}, expected a name")
    return inner, "" if inner is config else "vision_config."


def network_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that no shape tells, of one tower's configuration."""
    fields: dict[str, Any] = {}
    for ours, theirs in (
        ("num_heads", "num_attention_heads"),
        ("norm_eps", "layer_norm_eps"),
        ("rotary_base", "rope_theta"),
        ("decoder_num_heads", "decoder_num_attention_heads"),
    ):
        if config.get(theirs) is not None:
            fields[ours] = number(theirs, config[theirs])
    # Newer versions keep it among other parameters of the rotary positions.
    rotary = config.get("rope_parameters") or {}
    if not isinstance(rotary, Mapping):
        raise ValueError(f"config.json: rope_parameters is {rotary!r}, expected an object")
    if rotary.get("rope_type", "default") != "default":
        raise ValueError(
            f"config.json: rope_parameters.rope_type {rotary['rope_type']!r} is none that a ViT "
            "here has"
        )
    if rotary.get("rope_theta") is not None:
        fields["rotary_base"] = number("rope_theta", rotary["rope_theta"])
    activation = config.get("hidden_act")
    # A gated MLP's SiLU needs no field.
    if activation in _ACTIVATIONS:
        fields["activation"] = _ACTIVATIONS[activation]
    elif activation not in (None, "silu"):
        raise ValueError(f"config.json: hidden_act {activation!r} is none that a ViT here has")
    if str(config.get("model_type", "")).startswith("dinov3") and config.get("image_size"):
        fields["image_size"] = size_of_image("image_size", config["image_size"])
    return fields


def _type_of(config: Mapping[str, Any], inner: Mapping[str, Any], forced: bool) -> ModelType | None:
    """The type of the image tower; None where the file says none, or is forced to be a family's."""
    name = config.get("model_type")
    if inner is not config:
        inside = inner.get("model_type") or TWO_TOWERS.get(name)
        name = inside if name in (None, *TWO_TOWERS) else name
    if name is None:
        return None
    if name not in TYPES and forced:
        note(f"config.json: model_type {name!r} is taken for the family's, as asked")
        return None
    if name not in TYPES:
        raise ValueError(
            f"config.json: model_type {name!r} is not known to compute what a network here does "
            f"(known: {', '.join([*TYPES, *TWO_TOWERS])}); where you know whose network it equals, "
            "pass that as family="
        )
    return TYPES[name]


def _windows(config: Mapping[str, Any], size: Any) -> dict[str, Any]:
    """ViTDet's windows, and the size of its images."""
    blocks = config.get("window_block_indices") or ()
    if not all(isinstance(block, int) for block in blocks):
        raise ValueError(f"config.json: window_block_indices is {blocks!r}, expected whole numbers")
    side = number("window_size", config.get("window_size", 0))
    fields = {"window_size": side if blocks else 0, "image_size": size or 224}
    return {**fields, "window_blocks": tuple(blocks) if blocks and side else None}


def _kind_of_gate(config: Mapping[str, Any]) -> dict[str, Any]:
    """DINOv3's gate takes `hidden_act`; a gated GELU is a kind of MLP of its own."""
    if not config.get("use_gated_mlp"):
        return {}
    return {"mlp": "swiglu" if config.get("hidden_act", "gelu") == "silu" else "geglu"}


def _stored_size(kind: ModelType, inner: Mapping[str, Any], size: Any) -> Any:
    """The size that transformers takes the stored tables to be for, where images aren't square.

    DINOv2's and BEiT's positions are a square's for it whatever the images are, and BEiT's table of
    offsets has its sides exchanged; both are resized to the images from there.
    """
    if not isinstance(size, tuple):
        return size
    offsets = any(inner.get(f"use_{x}relative_position_bias") for x in ("", "shared_"))
    positions = inner.get("use_absolute_position_embeddings")
    if offsets and positions:
        raise ValueError(
            f"config.json: image_size is {size!r} and there are absolute and relative positions, "
            "which transformers takes to be for different grids; no network here does"
        )
    if offsets:
        return size[::-1]
    if positions or kind.shown is _DINOV2:
        patch = size_of_patch("patch_size", inner.get("patch_size"))
        return patch and patch * math.isqrt(math.prod(side // patch for side in size))
    return size


def _statements(
    inner: Mapping[str, Any], where: str, kind: ModelType, config: Mapping[str, Any]
) -> list[Statement]:
    """What the weights must confirm."""
    said = [
        Statement(where + key, fact, inner[key])
        for key, fact in kind.shown.items()
        if inner.get(key) is not None
    ]
    if inner.get("patch_size") is not None:
        size = size_of_patch("patch_size", inner["patch_size"])
        said.append(Statement(where + "patch_size", "patch size", size))
    if "layer_scale_init_value" in inner:
        scaled = bool(inner["layer_scale_init_value"])
        said.append(Statement(where + "layer_scale_init_value", "LayerScale", scaled))
    if inner.get("hidden_act") == "silu" and "use_swiglu_ffn" not in inner:
        said.append(Statement(where + "hidden_act", "a gated MLP", True, "silu"))
    if "query_bias" in inner:
        biases = tuple(bool(inner.get(f"{x}_bias", x != "key")) for x in ("query", "key", "value"))
        said.append(Statement("query_bias, key_bias, value_bias", "biases of q, k and v", biases))
    if inner.get("pooler_act", "tanh") != "tanh":
        said.append(Statement(where + "pooler_act", "the pooler's activation", inner["pooler_act"]))
    labels = config.get("id2label")
    classes = len(labels) if isinstance(labels, Mapping) and labels else config.get("num_labels")
    if classes is not None:
        said.append(Statement("id2label's length", "classes", classes))
    if config.get("projection_dim") is not None:
        said.append(Statement("projection_dim", "projection width", config["projection_dim"]))
    if "use_mean_pooling" in inner:
        averages = bool(inner["use_mean_pooling"])
        said.append(Statement("use_mean_pooling", "an average before the head", averages))
    return said
