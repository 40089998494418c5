"""What a folder's JSON files say beside the weights: transformers', timm's and open_clip's."""

from collections.abc import Collection, Mapping
from typing import Any

from vit_jax_xfer.models.preprocessing import Preprocessing, from_hugging_face
from vit_jax_xfer.pretrained.folder_config import FolderConfig, size_of_image
from vit_jax_xfer.pretrained.open_clip_config import open_clip_preprocessing, read_open_clip
from vit_jax_xfer.pretrained.published_names import published_names
from vit_jax_xfer.pretrained.read_files import Checkpoint
from vit_jax_xfer.pretrained.timm_config import is_timm_config, read_timm
from vit_jax_xfer.pretrained.transformers_config import (
    network_fields,
    read_transformers,
    vision_config,
)


def read_folder_config(
    checkpoint: Checkpoint, dialect: str, given: Collection[str] = (), forced: bool = False
) -> FolderConfig:
    """All that a folder's configuration says of the network beside it.

    dialect: in whose names its weights are, which tells whose configuration is meant where several
    are there. given: the fields that the caller says himself, see `read_timm`. forced: whether he
    names the family, see there and `read_transformers`.
    """
    config = checkpoint.config
    if _is_open_clips(checkpoint, dialect):
        return read_open_clip(checkpoint.open_clip)
    if config is None:
        return FolderConfig()
    if is_timm_config(config):
        return read_timm(config, given, forced)
    return read_transformers(config, forced)


def _is_open_clips(checkpoint: Checkpoint, dialect: str) -> bool:
    """Whether open_clip's configuration is that of the weights that were opened."""
    if checkpoint.open_clip is None:
        return False
    config = checkpoint.config
    if config is None or dialect == "openai":
        return True
    return dialect == "timm" and not is_timm_config(config)


def config_fields(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """A VisionTransformer's fields from a config.json, as far as shapes don't tell them."""
    if config is None:
        return {}
    if is_timm_config(config):
        return read_timm(config).fields
    return network_fields(vision_config(config)[0])


def folder_preprocessing(checkpoint: Checkpoint, dialect: str, size: Any) -> Preprocessing | None:
    """How images are prepared by a folder's own files; None where it doesn't say.

    dialect: as in `read_folder_config`. size: of the network's images.
    """
    if _is_open_clips(checkpoint, dialect):
        return open_clip_preprocessing(checkpoint.open_clip, size)
    return config_preprocessing(checkpoint.config, checkpoint.preprocessor, size)


def folder_class_names(
    checkpoint: Checkpoint, dialect: str, classes: int
) -> tuple[str, ...] | None:
    """The names of a head's classes by a folder's own files; None where it doesn't say.

    dialect: as in `read_folder_config`; open_clip's file names none. ValueError, see
    `published_names`.
    """
    if _is_open_clips(checkpoint, dialect):
        return None
    return published_names(checkpoint.config, classes)


def config_preprocessing(
    config: Mapping[str, Any] | None, preprocessor: Mapping[str, Any] | None, size: Any
) -> Preprocessing | None:
    """How images are prepared by a directory's own files; None where it doesn't say."""
    if preprocessor is not None and "pretrained_cfg" not in preprocessor:
        return from_hugging_face(dict(preprocessor), size)
    # transformers' wrapper of timm has timm's own; older files of timm have no such part.
    published = (preprocessor or config or {}).get("pretrained_cfg") or config
    if not published or "mean" not in published:
        return None
    pixels = None if _has_own_size(config or {}, published) else published.get("input_size")
    if pixels is not None and not (isinstance(pixels, list | tuple) and len(pixels) == 3):
        raise ValueError(f"input_size is {pixels!r}, expected channels, height and width")
    return Preprocessing(
        mean=published["mean"],
        std=published.get("std"),
        interpolation=published.get("interpolation") or "bicubic",
        crop=published.get("crop_pct") or 0.875,
        crop_mode=published.get("crop_mode") or "center",
        size=size_of_image("input_size", size if pixels is None else pixels[1:]),
    )


def _has_own_size(config: Mapping[str, Any], published: Mapping[str, Any]) -> bool:
    """Whether timm's network was made for another size than its name's, and takes no other."""
    own = config.get("model_args")
    if not isinstance(own, Mapping) or own.get("img_size") is None:
        return False
    flexible = own.get("dynamic_img_size") or own.get("strict_img_size") is False
    return bool(published.get("fixed_input_size")) and not flexible
