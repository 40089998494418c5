"""The table of pipeline operations: name → class."""

import difflib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

Op = Callable[[Any, np.random.Generator], Any]

_OPS: dict[str, type] = {}


def register(name: str) -> Callable[[type], type]:
    """Enters a class under `name`; its constructor's arguments are those of the pipeline string.

    An instance is called with (image, rng) and returns an image: a PIL image or an array
    (h, w, 3), uint8 or, after `to_float` or `normalize`, float32. All randomness must come from
    `rng`. Instances must pickle. A constructor raises ValueError for a bad argument. A class with
    `takes_pictures = True` may get a Picture, a file that isn't decoded yet, as its first image.
    """

    def enter(op: type) -> type:
        if name in _OPS:
            raise ValueError(f"name: {name!r} is registered already, by {_OPS[name].__module__}")
        _OPS[name] = op
        return op

    return enter


def build(name: str, args: list, kwargs: dict[str, Any]) -> Op:
    """Makes the operation `name` with these arguments.

    Raises ValueError: an unknown name gets the nearest known one, bad arguments the signature.
    """
    if name not in _OPS:
        near = difflib.get_close_matches(name, _OPS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(names())}"
        raise ValueError(f"pipeline: unknown op {name!r}, {hint}")
    op = _OPS[name]
    try:
        return op(*args, **kwargs)
    except (TypeError, ValueError) as error:
        reason = str(error).removeprefix(f"{op.__name__}.__init__() ")
        signature = inspect.signature(op).replace(return_annotation=inspect.Signature.empty)
        raise ValueError(f"pipeline: {name}: {reason}; signature: {name}{signature}") from error


def names() -> list[str]:
    """All operations' names, sorted."""
    return sorted(_OPS)
