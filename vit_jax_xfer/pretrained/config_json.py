"""What a Hugging Face directory's config.json says beside the weights: transformers' and timm's."""

from collections.abc import Collection, Mapping
from typing import Any

from vit_jax_xfer.models.preprocessing import Preprocessing, from_hugging_face
from vit_jax_xfer.pretrained.folder_config import FolderConfig
from vit_jax_xfer.pretrained.timm_config import is_timm_config, read_timm
from vit_jax_xfer.pretrained.transformers_config import (
    network_fields,
    read_transformers,
    vision_config,
)


def read_folder_config(
    config: Mapping[str, Any] | None, given: Collection[str] = (), forced: bool = False
) -> FolderConfig:
    """All that a folder's config.json says of the network beside it.

    given: the fields that the caller says himself, see `read_timm`. forced: whether he names the
    family, see there and `read_transformers`.
    """
    if config is None:
        return FolderConfig()
    if is_timm_config(config):
        return read_timm(config, given, forced)
    return read_transformers(config, forced)


def config_fields(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """A VisionTransformer's fields from a config.json, as far as shapes don't tell them."""
    if config is None:
        return {}
    if is_timm_config(config):
        return read_timm(config).fields
    return network_fields(vision_config(config)[0])


def config_preprocessing(
    config: Mapping[str, Any] | None, preprocessor: Mapping[str, Any] | None, size: Any
) -> Preprocessing | None:
    """How images are prepared by a directory's own files; None where it doesn't say."""
    if preprocessor is not None:
        return from_hugging_face(dict(preprocessor), size)
    published = (config or {}).get("pretrained_cfg") or config  # older files have no such part
    if not published or "mean" not in published:
        return None
    pixels = published.get("input_size", (3, size, size))[1:]
    return Preprocessing(
        mean=tuple(published["mean"]),
        std=tuple(published["std"]),
        interpolation=published.get("interpolation") or "bicubic",
        crop=published.get("crop_pct") or 0.875,
        crop_mode=published.get("crop_mode") or "center",
        size=pixels[0] if pixels[0] == pixels[1] else tuple(pixels),
    )
