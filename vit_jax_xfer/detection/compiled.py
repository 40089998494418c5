"""jax.jit as a decorator that keeps a function's types."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(*static: str) -> Callable[[_Function], _Function]:
    """`jax.jit` with these arguments static; to a type checker the function stays as it is."""
    jitted = functools.partial(jax.jit, static_argnames=static)
    return cast(Callable[[_Function], _Function], jitted)
