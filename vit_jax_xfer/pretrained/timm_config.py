"""What timm's config.json says beside the weights: its models' names stand for most of it."""

from collections.abc import Mapping
from typing import Any


def is_timm_config(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is timm's rather than transformers'."""
    return "pretrained_cfg" in config or "architecture" in config


def timm_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """A VisionTransformer's fields from timm's config.json, as far as shapes don't tell them."""
    architecture = config.get("architecture", "")
    tag = (config.get("pretrained_cfg") or {}).get("tag", "")
    quick = "quickgelu" in architecture or tag.startswith("openai")
    if "_clip_" in architecture and not quick:
        return {"activation": "gelu"}  # OpenCLIP's trainings; OpenAI's weights want the quick one
    return {}
