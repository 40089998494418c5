"""Networks by name: sizes, patch sizes, and any field by keyword."""

import dataclasses
import difflib
import fnmatch
import typing
from typing import Any

import flax.linen as nn

from vit_jax_xfer.models.filter.network import NETWORKS as FILTER_NETWORKS
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.lifting.convex_lift import ConvexLiFT
from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.published import PUBLISHED, SIZES
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

# The published LiFTs are of patch 8 and 16 and of width 384 and 768 (2403.14625).
LIFT_PATCH_SIZES: tuple[int, ...] = (8, 14, 16)


def _entries() -> dict[str, tuple[type[nn.Module], dict[str, Any]]]:
    entries: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {}
    for size, patches in PATCH_SIZES.items():
        for patch in patches:
            vit = {**(MICRO if size == "micro" else SIZES[size]), "patch_size": patch}
            entries[f"vit_{size}_patch{patch}"] = (VisionTransformer, vit)
            decoder = MICRO_DECODER if size == "micro" else DECODER
            masked = {**vit, "position": "sincos", "kernel_init": "xavier_uniform", **decoder}
            entries[f"mae_vit_{size}_patch{patch}"] = (MaskedAutoencoder, masked)
    entries |= {name: (VisionTransformer, fields) for name, fields in PUBLISHED.items()}
    entries |= {name: (FilterViT, fields) for name, fields in FILTER_NETWORKS.items()}
    for lift, module in (("lift", LiFT), ("convex_lift", ConvexLiFT)):
        entries[lift] = (module, {})
        entries |= {f"{lift}_patch{p}": (module, {"patch_size": p}) for p in LIFT_PATCH_SIZES}
    return entries


_MODELS = _entries()

# In a config, the name of `models.student.student_like` of the task's teacher.
STUDENT_LIKE = "student_like"


def list_models(pattern: str = "*") -> list[str]:
    """Names that `create_model` knows and that match a shell pattern, sorted."""
    return sorted(fnmatch.filter(_MODELS, pattern))


def create_model(name: str, **fields: Any) -> nn.Module:
    """A network by name, with any of its fields by keyword: a `flax.linen.Module`.

    A `mae_vit_*` takes the fields of its encoder and its own `decoder_*`. A published network's
    images are prepared for its `image_size`. ValueError for an unknown name or field, with the
    nearest that exists.
    """
    if name == STUDENT_LIKE:
        raise ValueError(
            "model 'student_like' has its size from a teacher; choose a task with one, or call "
            "models.student.student_like(teacher)"
        )
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3, cutoff=0.4)
        raise ValueError(f"model {name!r} is unknown; nearest: {near or list_models()}")
    module, defaults = _MODELS[name]
    fields = {**defaults, **fields}
    if "preprocessing" in defaults and fields["preprocessing"] is defaults["preprocessing"]:
        size = fields.get("image_size", 224)
        fields["preprocessing"] = dataclasses.replace(defaults["preprocessing"], size=size)
    return build(module, fields)


def build(module: type[nn.Module], fields: dict[str, Any]) -> nn.Module:
    """An instance of a model class from flat fields; a MaskedAutoencoder's encoder included."""
    if module is not MaskedAutoencoder:
        check_fields(module, fields)
        return module(**fields)
    own = {name: value for name, value in fields.items() if name.startswith("decoder_")}
    check_fields(MaskedAutoencoder, own)
    rest = {name: value for name, value in fields.items() if name not in own}
    rest = {"num_classes": 0, "pool": "none", **rest}
    return MaskedAutoencoder(encoder=build(VisionTransformer, rest), **own)


def field_types(name: str) -> dict[str, type]:
    """The fields that `create_model(name, …)` or `student_like` takes, and the type of each."""
    module = _MODELS[name][0] if name in _MODELS else VisionTransformer
    if module in (FilterViT, LiFT, ConvexLiFT):
        return _types(module)
    types = _types(VisionTransformer)
    if name == STUDENT_LIKE:
        return {**types, "parts": object}  # several names, or one string of them
    return {**types, **_types(MaskedAutoencoder)} if module is MaskedAutoencoder else types


def _types(module: type[nn.Module]) -> dict[str, type]:
    """Field types as a command line needs them: a dtype by its name, an image side as a number."""
    simple = {"int": int, "float": float, "str": str, "bool": bool}
    types: dict[str, type] = {}
    for name, field in module.__dataclass_fields__.items():
        if name in (
            "parent",
            "name",
            "encoder",
            "preprocessing",
            "class_names",
            "source",
            "stages",
        ):
            continue
        kinds = typing.get_args(field.type)
        if int in kinds and float in kinds:  # which of the two a value is says what it means
            types[name] = object
            continue
        kind = str(getattr(field.type, "__name__", field.type)).split(" | ")[0]
        types[name] = simple.get(kind, str)
    return types


def check_fields(module: type[nn.Module], fields: dict[str, Any]) -> None:
    """ValueError that names a field which `module` does not have, and the nearest that it has."""
    known = [f for f in module.__dataclass_fields__ if f not in ("parent", "name")]
    for field in fields:
        if field not in known:
            near = difflib.get_close_matches(field, known, n=1, cutoff=0.0)
            raise ValueError(f"{module.__name__} has no field {field!r}; did you mean {near[0]!r}?")
