"""A model written down as JSON, and built again from it."""

import dataclasses
import functools
import typing
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.registry import network_classes


def describe(model: nn.Module) -> dict[str, Any]:
    """{"class": …, "fields": {…}} of plain JSON values: dtypes by name, modules and values nested.

    ValueError for a class that registry.py doesn't list or a field that JSON can't hold.
    """
    name, known = type(model).__name__, network_classes()
    if name not in known:
        raise ValueError(f"model: a {name} can't be described, only {', '.join(known)}")
    return _written(model)


def from_description(description: dict[str, Any]) -> nn.Module:
    """The module that `describe` wrote down. ValueError for a class or a field that is unknown."""
    return _built(description, network_classes())


def _written(value: Any) -> dict[str, Any]:
    """The class and the fields of a module or a dataclass."""
    fields = {field: _plain(field, getattr(value, field)) for field in _fields(type(value))}
    return {"class": type(value).__name__, "fields": fields}


def _built(description: dict[str, Any], classes: dict[str, type]) -> Any:
    """The inverse of _written, for a class that is in `classes`."""
    name, fields = description.get("class"), description.get("fields", {})
    if name not in classes:
        raise ValueError(f"description: class {name!r} is none of {', '.join(classes)}")
    found = classes[name]
    unknown = sorted(set(fields) - set(_fields(found)))
    if unknown:
        raise ValueError(f"description: {name} has no field {', '.join(unknown)}")
    return found(**{field: _value(field, value) for field, value in fields.items()})


def _values() -> dict[str, type]:
    """The plain dataclasses that networks' fields hold, by name; none is a model by itself."""
    return _held_by(tuple(network_classes().values()))


@functools.cache
def _held_by(networks: tuple[type, ...]) -> dict[str, type]:

    def inside(declared: Any) -> list[type]:
        parts = typing.get_args(declared)
        return [one for part in parts for one in inside(part)] if parts else [declared]

    kinds = [
        kind
        for network in networks
        for field in network.keywords().values()
        for kind in inside(field.type)
    ]
    return {kind.__name__: kind for kind in kinds if dataclasses.is_dataclass(kind)}


def _fields(found: type) -> list[str]:
    names = [field.name for field in dataclasses.fields(found)]
    return [name for name in names if name not in ("parent", "name")]


def _is_dtype(field: str) -> bool:
    return field == "dtype" or field.endswith("_dtype")


def _plain(field: str, value: Any) -> Any:
    """A field's value as JSON holds it."""
    if isinstance(value, nn.Module):
        return describe(value)
    if type(value) in _values().values():
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
        return _built(value, {**network_classes(), **_values()})
    if isinstance(value, list):
        return tuple(_value(field, one) for one in value)
    return jnp.dtype(value) if value is not None and _is_dtype(field) else value
