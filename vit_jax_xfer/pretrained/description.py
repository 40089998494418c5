"""A model written down as JSON, and built again from it."""

import importlib
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

# Where each class that can be written down lives. Nothing else is ever imported by name.
CLASSES: dict[str, str] = {
    "VisionTransformer": "vit_jax_xfer.models.vit",
    "MaskedAutoencoder": "vit_jax_xfer.models.mae",
}


def describe(model: nn.Module) -> dict[str, Any]:
    """{"class": …, "fields": {…}} of plain JSON values: dtypes by name, modules nested.

    ValueError for a class that is not in CLASSES or a field that JSON can't hold.
    """
    name = type(model).__name__
    if name not in CLASSES:
        raise ValueError(f"model: a {name} can't be described, only {', '.join(CLASSES)}")
    return {
        "class": name,
        "fields": {field: _plain(field, getattr(model, field)) for field in _fields(type(model))},
    }


def from_description(description: dict[str, Any]) -> nn.Module:
    """The module that `describe` wrote down. ValueError for a class or a field that is unknown."""
    name, fields = description.get("class"), description.get("fields", {})
    if name not in CLASSES:
        raise ValueError(f"description: class {name!r} is none of {', '.join(CLASSES)}")
    model_class = getattr(importlib.import_module(CLASSES[name]), name)
    unknown = sorted(set(fields) - set(_fields(model_class)))
    if unknown:
        raise ValueError(f"description: {name} has no field {', '.join(unknown)}")
    return model_class(**{field: _value(field, value) for field, value in fields.items()})


def _fields(model_class: type[nn.Module]) -> list[str]:
    return [name for name in model_class.__dataclass_fields__ if name not in ("parent", "name")]


def _is_dtype(field: str) -> bool:
    return field == "dtype" or field.endswith("_dtype")


def _plain(field: str, value: Any) -> Any:
    """A field's value as JSON holds it."""
    if isinstance(value, nn.Module):
        return describe(value)
    if value is None:
        return None
    if _is_dtype(field):
        return jnp.dtype(value).name
    if isinstance(value, tuple | list):
        return [_plain(field, one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, bool | int | float | str):
        return value
    raise ValueError(f"{field}: a {type(value).__name__} can't be written down")


def _value(field: str, value: Any) -> Any:
    """The inverse of _plain; lists become tuples, which a module can hash."""
    if isinstance(value, dict):
        return from_description(value)
    if isinstance(value, list):
        return tuple(_value(field, one) for one in value)
    return jnp.dtype(value) if value is not None and _is_dtype(field) else value
