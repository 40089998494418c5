"""Networks by name: sizes, patch sizes, and any field by keyword."""

import dataclasses
import difflib
import fnmatch
import types
import typing
from typing import Any, overload

from vit_jax_xfer.arguments.declared_types import check_declared, floating_type
from vit_jax_xfer.arguments.listed_values import plain
from vit_jax_xfer.arguments.meant_names import meant_name
from vit_jax_xfer.arguments.number_ranges import check_network_numbers
from vit_jax_xfer.models.dense.detector import Detector
from vit_jax_xfer.models.dense.segmentation_network import SegmentationNetwork
from vit_jax_xfer.models.filter.network import NETWORKS as FILTER_NETWORKS
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.lifting.convex_lift import ConvexLiFT
from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.model_names import (
    ConvexLiFTName,
    DetectorName,
    FilterViTName,
    LiFTName,
    MaskedAutoencoderName,
    SegmentationNetworkName,
    VisionTransformerName,
)
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.published import PUBLISHED, SIZES
from vit_jax_xfer.models.timm_architectures import ARCHITECTURES
from vit_jax_xfer.models.timm_arguments import vit_fields
from vit_jax_xfer.models.timm_tags import tagged
from vit_jax_xfer.models.vit import VisionTransformer

# For digits, tests and two cores.
MICRO: dict[str, int] = {"width": 64, "depth": 4, "num_heads": 4}
# The plain networks: any size with any of these.
PATCH_SIZES: dict[str, tuple[int, ...]] = {
    "micro": (2, 4, 8),
    "tiny": (8, 16),
    "small": (8, 14, 16, 32),
    "base": (8, 14, 16, 32),
    "large": (14, 16, 32),
    "huge": (14, 16),
}
# MAE's decoder (2111.06377) is one for all sizes; the micro one goes with the micro encoder.
DECODER: dict[str, int] = {"decoder_width": 512, "decoder_depth": 8, "decoder_num_heads": 16}
MICRO_DECODER: dict[str, int] = {"decoder_width": 48, "decoder_depth": 2, "decoder_num_heads": 4}

# ViTDet's backbones (2203.16527), at the size at which they detect; their positions are those of
# pre-training.
VITDET: dict[str, Any] = {
    "patch_size": 16,
    "image_size": 1024,
    "position_size": 224,
    "window_size": 14,
    "relative_bias": "decomposed",
    "class_token": False,
    "final_norm": False,
    "pool": "grid",
    "num_classes": 0,
}
MICRO_VITDET: dict[str, Any] = {"patch_size": 4, "image_size": 32, "window_size": 4}

# Mask R-CNN as published for plain transformers (2203.16527).
ON_VITDET: dict[str, Any] = {"backbone": "vitdet_base_patch16"}

# The published LiFTs are of patch 8 and 16 and of width 384 and 768 (2403.14625).
LIFT_PATCH_SIZES: tuple[int, ...] = (8, 14, 16)


def _quarters(depth: int) -> tuple[int, ...]:
    """The last block of each quarter."""
    return tuple((quarter + 1) * depth // 4 - 1 for quarter in range(4))


def _entries() -> dict[str, tuple[type[Network], dict[str, Any]]]:
    entries: dict[str, tuple[type[Network], dict[str, Any]]] = {}
    for size, patches in PATCH_SIZES.items():
        for patch in patches:
            vit = {**(MICRO if size == "micro" else SIZES[size]), "patch_size": patch}
            entries[f"vit_{size}_patch{patch}"] = (VisionTransformer, vit)
            decoder = MICRO_DECODER if size == "micro" else DECODER
            masked = {**vit, "position": "sincos", "kernel_init": "xavier_uniform", **decoder}
            entries[f"mae_vit_{size}_patch{patch}"] = (MaskedAutoencoder, masked)
    for size in ("tiny", "small", "base", "large", "huge"):
        entries[f"vitdet_{size}_patch16"] = (VisionTransformer, {**VITDET, **SIZES[size]})
    for size in ("base", "large", "huge"):
        fields, depth = {**VITDET, **SIZES[size]}, SIZES[size]["depth"]
        carry = {"window_blocks": tuple(range(depth)), "conv_blocks": _quarters(depth)}
        entries[f"vitdet_{size}_patch16_conv"] = (VisionTransformer, {**fields, **carry})
    micro = {**VITDET, **MICRO, **MICRO_VITDET, "position_size": None}
    entries["vitdet_micro_patch4"] = (VisionTransformer, micro)
    entries |= {name: (VisionTransformer, fields) for name, fields in PUBLISHED.items()}
    entries |= {name: (FilterViT, fields) for name, fields in FILTER_NETWORKS.items()}
    for lift, module in (("lift", LiFT), ("convex_lift", ConvexLiFT)):
        entries[lift] = (module, {})
        entries |= {f"{lift}_patch{p}": (module, {"patch_size": p}) for p in LIFT_PATCH_SIZES}
    entries["mask_rcnn"] = (Detector, {"head": "regions", **ON_VITDET})
    entries["cascade_mask_rcnn"] = (Detector, {"head": "cascade", **ON_VITDET})
    entries["centre_detector"] = (Detector, {"head": "centres", "pyramid_width": 96})
    entries["segmentation"] = (SegmentationNetwork, {})
    return entries


# Every network that there is: name → its class, and the fields that the name stands for. What this
# project knows of kinds of networks comes from here.
ENTRIES = _entries()

# In a config, the name of `models.student.student_like` of the task's teacher, or of other weights.
STUDENT_LIKE = "student_like"


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` knows and that match a shell pattern, sorted.

    ValueError for a pattern that is no text.
    """
    if not isinstance(pattern, str):
        raise ValueError(f"pattern: got {pattern!r}, expected text, such as 'vit_*'")
    return sorted(fnmatch.filter(ENTRIES, pattern))


def network_class(name: str) -> type[Network]:
    """The class of a named network; of an unknown name, as of a student's, the usual one."""
    return ENTRIES[name][0] if name in ENTRIES else VisionTransformer


def network_classes() -> dict[str, type[Network]]:
    """The classes of all networks by their own names."""
    return {kind.__name__: kind for kind, _ in ENTRIES.values()}


@overload
def create_model(name: VisionTransformerName, **fields: Any) -> VisionTransformer: ...
@overload
def create_model(name: MaskedAutoencoderName, **fields: Any) -> MaskedAutoencoder: ...
@overload
def create_model(name: FilterViTName, **fields: Any) -> FilterViT: ...
@overload
def create_model(name: LiFTName, **fields: Any) -> LiFT: ...
@overload
def create_model(name: ConvexLiFTName, **fields: Any) -> ConvexLiFT: ...
@overload
def create_model(name: DetectorName, **fields: Any) -> Detector: ...
@overload
def create_model(name: SegmentationNetworkName, **fields: Any) -> SegmentationNetwork: ...
@overload
def create_model(name: str, **fields: Any) -> Network: ...
def create_model(name: str, **fields: Any) -> Network:
    """A network by name, with any of its fields by keyword: a `flax.linen.Module`.

    A `mae_vit_*` takes the fields of its encoder and its own `decoder_*`. A published network's
    images are prepared for its `image_size`. Beside those of `list_models`, a name may be timm's in
    full, "vit_base_patch16_224.augreg_in21k": its size, and by its tag classes and preprocessing.
    A dense network takes the name of its `backbone`, the fields of that one, and `lift`.
    ValueError for an unknown name or field, with the nearest that exists.
    """
    if not isinstance(name, str):
        raise ValueError(f"name: got {name!r}, expected text, such as 'vit_base_patch16'")
    if name == STUDENT_LIKE:
        raise ValueError(
            "model 'student_like' has its size from a teacher; choose a task with one, give "
            "init_from or model.like, or call models.student.student_like(teacher)"
        )
    if name in ENTRIES:
        kind, defaults = ENTRIES[name]
    else:
        kind, defaults = VisionTransformer, _timm_entry(name)
    fields = {**defaults, **fields}
    if "preprocessing" in defaults and fields["preprocessing"] is defaults["preprocessing"]:
        size = fields.get("image_size", 224)
        fields["preprocessing"] = dataclasses.replace(defaults["preprocessing"], size=size)
    return build(kind, fields)


def _timm_entry(name: str) -> dict[str, Any]:
    """The fields of a name of timm's. ValueError where it is unknown, or no network here is it."""
    architecture, _, tag = name.partition(".")
    if architecture not in ARCHITECTURES:
        near = difflib.get_close_matches(name, {*ENTRIES, *ARCHITECTURES}, n=3, cutoff=0.4)
        hint = "nearest: " + ", ".join(map(repr, near)) if near else "vjx.list_models() has all"
        raise ValueError(f"model {name!r} is unknown; {hint}")
    try:
        fields = vit_fields(ARCHITECTURES[architecture])
        return {**fields, **tagged(architecture, tag, fields["width"])} if tag else fields
    except ValueError as error:
        raise ValueError(f"model {name!r}: {error}") from None


def build(kind: type[Network], fields: dict[str, Any]) -> Network:
    """A network of a class from its keywords; a MaskedAutoencoder's are its encoder's as well."""
    return kind.from_keywords(checked_fields(kind, fields))


# A run's images are RGB, whatever a network could take.
_NOT_SET = ("in_channels",)


def field_types(name: str) -> dict[str, type]:
    """The fields of `create_model(name, …)` or `student_like` that a config sets, each's type."""
    types = {
        field: kind
        for field, declared in network_class(name).keywords().items()
        if field not in _NOT_SET and (kind := _setting_type(declared.type)) is not None
    }
    # Parts are several names, or one string of them.
    return {**types, "parts": object, "like": str} if name == STUDENT_LIKE else types


def _setting_type(declared: Any) -> type | None:
    """A field's type as a command line needs it; None for a field that none can set.

    A dtype goes by its name, an image side as a number, blocks and layers as a tuple.
    """
    if declared is Any:
        return str
    union = typing.get_origin(declared) in (typing.Union, types.UnionType)
    kinds = typing.get_args(declared) if union else (declared,)
    if int in kinds and float in kinds:  # which of the two a value is says what it means
        return object
    if int in typing.get_args(kinds[0]):
        return tuple
    return kinds[0] if kinds[0] in (int, float, str, bool) else None


# Keywords of timm's and transformers' functions whose part another function has here.
_ELSEWHERE = {
    name: "a network is made without weights; vjx.load_pretrained(FILE, or 'hf:ORG/NAME') gives it "
    "with them"
    for name in ("pretrained", "checkpoint_path", "weights")
}


def checked_fields(kind: type[Network], fields: dict[str, Any]) -> dict[str, Any]:
    """The fields as a network of a class takes them, lists and arrays as tuples.

    ValueError that names a field which the class does not have, and the nearest that it has. So too
    a value of another type than its field's, and a number that makes no sense there. None is left
    to the network.
    """
    known = kind.keywords()
    for field in fields:
        if field not in known:
            said = _ELSEWHERE.get(field, f"did you mean {meant_name(field, known)!r}?")
            raise ValueError(f"{kind.__name__} has no field {field!r}; {said}")
    fields = {field: plain(value) for field, value in fields.items()}
    for field, value in fields.items():
        if value is not None:
            check_declared(field, value, known[field].type)
            if field == "dtype" or field.endswith("_dtype"):
                floating_type(field, value)
    check_network_numbers(fields)
    return {name: _hashable(value) for name, value in fields.items()}


def _hashable(value: Any) -> Any:
    """A list as a tuple: jax.jit needs networks that hash."""
    return tuple(map(_hashable, value)) if isinstance(value, list) else value
