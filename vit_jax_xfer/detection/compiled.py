"""jax.jit as a decorator that keeps a function's types, and takes lists for what is static."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax

from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.listed_values import plain

_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(*static: str) -> Callable[[_Function], _Function]:
    """`jax.jit` with these arguments static; to a type checker the function stays as it is.

    Static ones are keys of compiled programs: numbers and lists of numpy's and jax's become
    Python's, which have a hash. A text, or None, in place of an array is a ValueError.
    """

    def decorate(function: _Function) -> _Function:
        jitted = jax.jit(function, static_argnames=static)
        signature = inspect.signature(function)
        defaults = {name: one.default for name, one in signature.parameters.items()}

        @functools.wraps(function)
        def call(*given: Any, **named: Any) -> Any:
            arguments = signature.bind(*given, **named).arguments
            for name, value in arguments.items():
                if name in static:
                    value = plain(value)
                    arguments[name] = tuple(value) if isinstance(value, list) else value
                elif isinstance(value, str) or (value is None and defaults[name] is not None):
                    given_array(name, value)  # its error
            return jitted(**arguments)

        return cast(_Function, call)

    return decorate
