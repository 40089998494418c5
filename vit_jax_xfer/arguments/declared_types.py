"""Whether a value is what a field is declared to hold: text in place of numbers is refused."""

import contextlib
import dataclasses
import difflib
import numbers
import types
import typing
from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

_WORDS: dict[Any, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    types.NoneType: "None",
}
_KINDS: dict[Any, Any] = {int: numbers.Integral, float: numbers.Real, str: str}


def check_declared(field: str, value: Any, declared: Any) -> None:
    """ValueError, naming the field, unless a value is of its declared type.

    declared: as in a dataclass. Plain types, dataclasses, tuples, for which lists are as good, and
    unions of them are held to, and words (Literal) where they are all that may be; anything else
    may be anything.
    """
    if typing.get_origin(declared) is Literal:
        check_choice(field, value, typing.get_args(declared))
    elif not _fits(value, declared):
        raise ValueError(f"{field}: got {value!r}, expected {_said(declared)}")


def check_choice(field: str, value: object, allowed: Sequence[str], other: str = "") -> None:
    """ValueError, with the nearest, unless `value` is one of the words; other: what else may be."""
    if value not in allowed:
        near = difflib.get_close_matches(str(value), allowed, n=1, cutoff=0.0)[0]
        raise ValueError(
            f"{field}: {value!r} is none of {', '.join(allowed)}{other}; did you mean {near!r}?"
        )


def floating_type(field: str, value: Any) -> jnp.dtype:
    """The type of numbers that a value names, or is. ValueError unless it is a floating one."""
    with contextlib.suppress(TypeError):
        found = jnp.dtype(value)
        if jnp.issubdtype(found, jnp.floating):
            return found
    raise ValueError(f"{field}: got {value!r}, expected a floating type, such as 'bfloat16'")


def _fits(value: Any, declared: Any) -> bool:
    origin, parts = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:  # among others: which word it is says who takes it
        return isinstance(value, str)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        if parts[1:] == (...,):
            return all(_fits(one, parts[0]) for one in value)
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if declared is bool:
        return isinstance(value, bool | np.bool_)
    if declared is types.NoneType:
        return value is None
    if declared in _KINDS:
        return isinstance(value, _KINDS[declared]) and not isinstance(value, bool)
    if isinstance(declared, type) and dataclasses.is_dataclass(declared):
        return isinstance(value, declared)
    return True


def _said(declared: Any) -> str:
    """A declared type as a message says it."""
    origin, parts = typing.get_origin(declared), typing.get_args(declared)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_said, parts))
    if origin is Literal:
        return f"one of {', '.join(parts)}"
    if origin is tuple:
        length = "" if parts[1:] == (...,) else f" of {len(parts)}"
        return f"a tuple{length}, each {_said(parts[0])}"
    if isinstance(declared, type) and declared not in _WORDS:
        return f"a {declared.__name__}"
    return _WORDS.get(declared, str(declared))
