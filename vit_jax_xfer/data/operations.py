"""The table of pipeline operations: name → class."""

import abc
import difflib
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from vit_jax_xfer.data.frame import Move

Op = Callable[[Any, np.random.Generator], Any]

_OPS: dict[str, type] = {}


class Geometric(abc.ABC):
    """An op that moves pixels and says where to: what is known of places goes with the image."""

    # Why images with boxes or masks can't go through it; "" = they can.
    refused: str = ""
    # Whether `move` takes a third argument where there is a map of classes: Move → the map then.
    looks_at_classes: bool = False

    @abc.abstractmethod
    def move(self, image: Any, rng: np.random.Generator) -> tuple[Any, Move]:
        """The image after the op, and what the op did to places in it."""

    def __call__(self, image: Any, rng: np.random.Generator) -> Any:
        return self.move(image, rng)[0]


def register(name: str) -> Callable[[type], type]:
    """Enters a class under `name`; its constructor's arguments are those of the pipeline string.

    An instance is called with (image, rng) and returns an image: a PIL image or an array
    (h, w, 3), uint8 or, after `to_float` or `normalize`, float32. All randomness must come from
    `rng`. Instances must pickle. A constructor raises ValueError for a bad argument. A class with
    `takes_pictures = True` may get a Picture, a file that isn't decoded yet, as its first image.
    For images with boxes or masks an op is a `Geometric`, or has `in_place = True`: it leaves all
    where it is.
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


def name_of(op: Op) -> str:
    """The name under which an operation's class is registered."""
    return next((name for name, kind in _OPS.items() if kind is type(op)), type(op).__name__)


def find(name: str) -> type:
    """The class of an operation. KeyError where there is none."""
    return _OPS[name]


def names() -> list[str]:
    """All operations' names, sorted."""
    return sorted(_OPS)
