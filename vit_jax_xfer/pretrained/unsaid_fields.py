"""What a file in a publisher's names doesn't say of a network, so that it would be read otherwise.

Such a file holds arrays alone. What no array shows, as the pooling or a norm's epsilon, whoever
reads it takes as the family has it: a network of other fields would give other outputs, unnoticed.
"""

import warnings
from collections.abc import Mapping
from typing import Any

from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.transformer.patches import sides_of
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.file_to_model import recognise
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.pretrained.read_files import read_checkpoint

Fields = dict[str, Any]

# Fields that change no output at evaluation: how a network starts, trains and is run, what goes
# beside it, and what names leave out because nobody uses it (see `to_publisher_names`).
_NO_OUTPUT = (
    "kernel_init",
    "head_init_std",
    "drop_path",
    "layer_scale",
    "mask_token",
    "class_position",
    "dtype",
    "product_dtype",
    "attention",
    "blockwise_above",
    "remat",
    "scan",
    "preprocessing",
    "class_names",
)
# What shapes may not tell, so that a file can't be read without.
_ASKED = ("num_heads", "decoder_num_heads", "image_size", "patch_size")


def unsaid_fields(model: Network, state: Mapping[str, Any], family: str) -> Fields:
    """{field: value} that `load_pretrained(state, family)` must be told to give the network back.

    state: its arrays in a publisher's names. ValueError, naming the field, where no telling helps:
    in these names the arrays are another network's.
    """
    wanted = _fields(model)
    told = _needed(state, family, wanted)
    found = _read(state, family, told)
    for name in _differing(wanted, found):
        told[name] = _given(model, name)
    if told:
        found = _read(state, family, told)
    for name in _differing(wanted, found):
        raise ValueError(
            f"names: the file would be read as a network of {name}={found[name]!r}, and this one "
            f"has {wanted[name]!r}; choose other names, or a family that has it"
        )
    return told


def _needed(state: Mapping[str, Any], family: str, wanted: Fields) -> Fields:
    """The least of `_ASKED` with which a file is read; all where it isn't."""
    told: Fields = {}
    for name in (name for name in _ASKED if name in wanted):
        try:
            _read(state, family, told)
        except ValueError:
            told[name] = wanted[name]
        else:
            break
    return told


def _read(state: Mapping[str, Any], family: str, told: Fields) -> Fields:
    """The fields of the network that a file is read as. ValueError where it can't be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LoadingNote)
        try:
            return _fields(recognise(read_checkpoint(state), family, told).model)
        except ValueError as error:
            raise ValueError(f"names: the file would not be read again: {error}") from None


def _given(model: Network, name: str) -> Any:
    """A field as the encoder inside has it, or the network around that."""
    inside = model.encoder
    return getattr(inside if name in inside.keywords() else model, name)


def _differing(wanted: Fields, found: Fields) -> list[str]:
    return [name for name, value in wanted.items() if found.get(name, value) != value]


def _fields(model: Network) -> Fields:
    """The fields by which outputs differ, in one form where several mean the same."""
    inside = model.encoder
    every = {name: getattr(inside, name) for name in inside.keywords()}
    if inside is not model:
        own = set(model.keywords()) - set(every) - {"encoder"}
        every |= {name: getattr(model, name) for name in own}
    fields = {name: value for name, value in every.items() if name not in _NO_OUTPUT}
    return fields | _resolved(inside) if isinstance(inside, VisionTransformer) else fields


def _resolved(model: VisionTransformer) -> Fields:
    """What a vision transformer's fields come to where they hang on others."""
    keyless = model.qkv_bias in ("no_key", "masked_key")
    biased = model.relative_bias in ("block", "shared")
    rotates = model.rotary != "none"
    return {
        "image_size": sides_of(model.image_size),
        "mlp_dim": model.mlp_dim or 4 * model.width,
        "pool_norm": model.norm_after_pool,
        "distillation_head": model.has_distillation_head,
        "qkv_bias": "no_key" if keyless else model.qkv_bias,
        "position_size": model.position_grid if model.position == "learned" else None,
        "position_resize": model.position_resize if model.position == "learned" else None,
        "relative_resize": model.relative_resize if biased else None,
        "rotary_base": model.rotary_base if rotates else None,
        "rotary_grid": model.rotary_grid if rotates else None,
        "head_bias": model.head_bias if model.num_classes else None,
        "window_blocks": model.windowed,
        "patch_stride": model.patch_stride or model.patch_size,
    }
