"""Settings inside settings: dataclasses that nest in the code and lie flat in a config."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from vit_jax_xfer.arguments.declared_types import check_declared
from vit_jax_xfer.arguments.meant_names import meant_name

Settings = TypeVar("Settings")


def flat_types(settings_type: type[Any]) -> dict[str, Any]:
    """{name: declared type} of a dataclass's fields; a dataclass in it gives its own instead.

    ValueError where two parts of the settings share a name.
    """
    found: dict[str, Any] = {}
    for name, kind in _types(settings_type).items():
        inner = flat_types(kind) if dataclasses.is_dataclass(kind) else {name: kind}
        if shared := sorted(found.keys() & inner.keys()):
            raise ValueError(f"{shared[0]}: two fields of {settings_type.__name__} have this name")
        found |= inner
    return found


def to_flat(settings: Any) -> dict[str, Any]:
    """{name: value} of the fields of `flat_types`."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        values |= to_flat(value) if dataclasses.is_dataclass(value) else {field.name: value}
    return values


def from_flat(settings_type: type[Settings], values: Mapping[str, Any]) -> Settings:
    """The settings of flat `values`, the rest at its defaults.

    ValueError for an unknown name, and for a value of another type than its field is declared.
    """
    known = flat_types(settings_type)
    if unknown := sorted(values.keys() - known.keys()):
        near = f"; did you mean {meant_name(unknown[0], known)!r}?" if known else ""
        raise ValueError(f"{unknown[0]}: {settings_type.__name__} has no such field{near}")
    for name, value in values.items():
        check_declared(name, value, known[name])
    return _build(settings_type, values)


def _build(settings_type: type[Any], values: Mapping[str, Any]) -> Any:
    types = _types(settings_type)
    arguments: dict[str, Any] = {}
    for field in dataclasses.fields(settings_type):
        kind = types[field.name]
        if dataclasses.is_dataclass(kind):
            defaults = to_flat(field.default) if isinstance(field.default, kind) else {}
            arguments[field.name] = _build(kind, {**defaults, **values})
        elif field.name in values:
            arguments[field.name] = values[field.name]
    return settings_type(**arguments)


def _types(settings_type: type[Any]) -> dict[str, Any]:
    hints = typing.get_type_hints(settings_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(settings_type)}
