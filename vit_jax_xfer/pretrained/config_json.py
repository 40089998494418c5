"""What a Hugging Face directory's config.json says beside the weights: transformers' and timm's."""

from collections.abc import Mapping
from typing import Any

from vit_jax_xfer.models.preprocessing import Preprocessing, from_hugging_face
from vit_jax_xfer.pretrained.timm_config import is_timm_config, timm_fields

_ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "quick_gelu": "quick_gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}


def config_fields(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """A VisionTransformer's fields from a config.json, as far as shapes don't tell them."""
    if config is None:
        return {}
    if is_timm_config(config):
        return timm_fields(config)
    config = config.get("vision_config") or config
    if not isinstance(config, Mapping):
        raise ValueError(f"config.json: vision_config is {config!r}, expected an object")
    fields: dict[str, Any] = {}
    for ours, theirs in (
        ("num_heads", "num_attention_heads"),
        ("norm_eps", "layer_norm_eps"),
        ("rotary_base", "rope_theta"),
        ("decoder_num_heads", "decoder_num_attention_heads"),
    ):
        if config.get(theirs) is not None:
            fields[ours] = _number(theirs, config[theirs])
    # Newer versions keep it among other parameters of the rotary positions.
    rotary = (config.get("rope_parameters") or {}).get("rope_theta")
    if rotary is not None:
        fields["rotary_base"] = _number("rope_theta", rotary)
    activation = config.get("hidden_act")
    # A gated MLP's SiLU needs no field.
    if activation in _ACTIVATIONS:
        fields["activation"] = _ACTIVATIONS[activation]
    elif activation not in (None, "silu"):
        raise ValueError(f"config.json: hidden_act {activation!r} is none that a ViT here has")
    if config.get("model_type", "").startswith("dinov3") and config.get("image_size"):
        fields["image_size"] = config["image_size"]
    return fields


def config_preprocessing(
    config: Mapping[str, Any] | None, preprocessor: Mapping[str, Any] | None, size: Any
) -> Preprocessing | None:
    """How images are prepared by a directory's own files; None where it doesn't say."""
    if preprocessor is not None:
        return from_hugging_face(dict(preprocessor), size)
    published = (config or {}).get("pretrained_cfg")
    if not published or "mean" not in published:
        return None
    pixels = published.get("input_size", (3, size, size))[1:]
    return Preprocessing(
        mean=tuple(published["mean"]),
        std=tuple(published["std"]),
        interpolation=published.get("interpolation", "bicubic"),
        crop=published.get("crop_pct", 0.875),
        crop_mode="squash" if published.get("crop_mode") == "squash" else "center",
        size=pixels[0] if pixels[0] == pixels[1] else tuple(pixels),
    )


def _number(key: str, value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"config.json: {key} is {value!r}, expected a number")
    return value
