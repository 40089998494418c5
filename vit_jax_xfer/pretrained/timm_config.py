"""What timm's config.json says beside the weights.

Its `architecture` stands for most of a network (models/timm_architectures.py), `model_args` for
what was asked for otherwise. What the weights show too must be the same there.
"""

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from vit_jax_xfer.models.timm_architectures import ARCHITECTURES
from vit_jax_xfer.models.timm_arguments import vit_fields
from vit_jax_xfer.models.timm_tags import has_openais_activation
from vit_jax_xfer.pretrained.folder_config import FolderConfig, Statement, size_of_image

Fields = dict[str, Any]

# What a caller states, beside family, who loads an architecture that is not known here.
NAMED_BY_ARCHITECTURE = ("num_heads", "activation", "norm_eps", "pool")
# timm's word for what weights show, {field: (word, fact of `weights_show`)}
_SHOWN = {
    "depth": ("depth", "depth"),
    "width": ("embed_dim", "width"),
    "mlp_dim": ("embed_dim × mlp_ratio", "MLP width"),
    "patch_size": ("patch_size", "patch size"),
    "in_channels": ("in_chans", "channels"),
    "num_classes": ("num_classes", "classes"),
    "class_token": ("class_token", "a class token"),
    "distillation_token": ("distilled", "a distillation token"),
    "registers": ("reg_tokens", "registers"),
    "pre_norm": ("pre_norm", "a norm before the blocks"),
    "qk_norm": ("qk_norm", "norms of queries and keys"),
    "attention_norm": ("scale_attn_norm", "a norm inside of the attention"),
    "mlp_norm": ("scale_mlp_norm", "a norm inside of the MLP"),
}


def is_timm_config(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is timm's rather than transformers'."""
    return "pretrained_cfg" in config or "architecture" in config


def read_timm(
    config: Mapping[str, Any], given: Collection[str] = (), forced: bool = False
) -> FolderConfig:
    """What timm's config.json says of the network in the folder; nothing without an architecture.

    given: the fields that the caller says; NAMED_BY_ARCHITECTURE together, and a family that he
        names (forced), stand for an architecture that is not known. ValueError naming the key for
        that, for an argument that no network here has, and for a value of another type.
    """
    published = _mapping(config, "pretrained_cfg") or config  # older ones were flat
    name = config.get("architecture") or published.get("architecture")
    if name is None:
        return FolderConfig()
    known = ARCHITECTURES.get(str(name).partition(".")[0])
    if known is None:
        if forced and set(NAMED_BY_ARCHITECTURE) <= set(given):
            return FolderConfig()
        raise ValueError(_unknown(name))
    own = {key: config[key] for key in ("num_classes", "global_pool") if key in config}
    arguments = {**_mapping(config, "model_args"), **own}
    if "img_size" not in arguments and "input_size" in published:
        arguments["img_size"] = list(published["input_size"])[1:]
    try:
        fields = vit_fields({**known, **arguments})
    except ValueError as error:
        raise ValueError(f"config.json: architecture {name!r} has {error}") from None
    del fields["pool_norm"]  # the weights show where the norm is
    if has_openais_activation(name, published.get("tag", "")):
        fields["activation"] = "quick_gelu"
    size = size_of_image("img_size", fields["image_size"])
    return FolderConfig({**fields, "image_size": size}, size, _statements(fields))


def _statements(fields: Fields) -> tuple[Statement, ...]:
    """What the weights must confirm."""
    said = [Statement(key, fact, fields[name]) for name, (key, fact) in _SHOWN.items()]
    bias, scale = fields["qkv_bias"] != "none", fields["layer_scale"]
    said.append(Statement("qkv_bias", "a bias of q, k and v", bias))
    said.append(Statement("init_values", "LayerScale", scale is not None, scale))
    said.append(Statement("mlp_layer", "a gated MLP", fields["mlp"] != "plain", fields["mlp"]))
    table = fields["position"] == "learned"
    said.append(Statement("pos_embed", "a table of positions", table))
    return tuple(said)


def _mapping(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = config.get(key) or {}
    if not isinstance(found, Mapping):
        raise ValueError(f"config.json: {key} is {found!r}, expected an object")
    return dict(found)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(str(name), ARCHITECTURES, n=1, cutoff=0.8)
    return (
        f"config.json: architecture {name!r} is not known to be a network here"
        + (f" (nearest: {near[0]})" if near else "")
        + "; where you know that it is a plain vision transformer, say what its name stands for: "
        + ", ".join(f"{word}=…" for word in ("family", *NAMED_BY_ARCHITECTURE))
    )
