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
    "FilterViT": "vit_jax_xfer.models.filter.network",
    "LiFT": "vit_jax_xfer.models.lifting.lift",
    "ConvexLiFT": "vit_jax_xfer.models.lifting.convex_lift",
}
# Plain dataclasses that a model's field may hold; none of them is a model by itself.
_VALUES: dict[str, str] = {
    "Preprocessing": "vit_jax_xfer.models.preprocessing",
    "FeatureSource": "vit_jax_xfer.models.lifting.feature_source",
    "Stage": "vit_jax_xfer.models.filter.filter_blocks",
}


def describe(model: nn.Module) -> dict[str, Any]:
    """{"class": …, "fields": {…}} of plain JSON values: dtypes by name, modules and values nested.

    ValueError for a class that is not in CLASSES or a field that JSON can't hold.
    """
    name = type(model).__name__
    if name not in CLASSES:
        raise ValueError(f"model: a {name} can't be described, only {', '.join(CLASSES)}")
    return _written(model)


def from_description(description: dict[str, Any]) -> nn.Module:
    """The module that `describe` wrote down. ValueError for a class or a field that is unknown."""
    return _built(description, CLASSES)


def _written(value: Any) -> dict[str, Any]:
    """The class and the fields of a module or a dataclass."""
    fields = {field: _plain(field, getattr(value, field)) for field in _fields(type(value))}
    return {"class": type(value).__name__, "fields": fields}


def _built(description: dict[str, Any], classes: dict[str, str]) -> Any:
    """The inverse of _written, for a class that is in `classes`."""
    name, fields = description.get("class"), description.get("fields", {})
    if name not in classes:
        raise ValueError(f"description: class {name!r} is none of {', '.join(classes)}")
    found = getattr(importlib.import_module(classes[name]), name)
    unknown = sorted(set(fields) - set(_fields(found)))
    if unknown:
        raise ValueError(f"description: {name} has no field {', '.join(unknown)}")
    return found(**{field: _value(field, value) for field, value in fields.items()})


def _fields(found: type) -> list[str]:
    return [name for name in found.__dataclass_fields__ if name not in ("parent", "name")]


def _is_dtype(field: str) -> bool:
    return field == "dtype" or field.endswith("_dtype")


def _plain(field: str, value: Any) -> Any:
    """A field's value as JSON holds it."""
    if isinstance(value, nn.Module):
        return describe(value)
    if type(value).__name__ in _VALUES:
        return _written(value)
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
        return _built(value, {**CLASSES, **_VALUES})
    if isinstance(value, list):
        return tuple(_value(field, one) for one in value)
    return jnp.dtype(value) if value is not None and _is_dtype(field) else value
