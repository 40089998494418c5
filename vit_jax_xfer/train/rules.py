"""Ordered name rules: the one mechanism for sharding, learning rates, decay, and freezing.

A rule is (pattern, value). A parameter's name is its path joined by "/", for example
`blocks_3/attention/qkv/kernel`; the first pattern that matches the whole name decides, and a name
that no pattern covers is an error, so that nothing is treated by accident.
"""

import re
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import jax

T = TypeVar("T")
PyTree = Any


class Rules(Generic[T]):
    """Ordered (pattern, value) pairs; `what` names them in error messages."""

    def __init__(self, rules: Sequence[tuple[str, T]], what: str):
        self.what = what
        try:
            self.rules = [(re.compile(pattern), value) for pattern, value in rules]
        except (re.error, TypeError, ValueError) as error:
            raise ValueError(f"{what}: expected (pattern, value) pairs: {error}") from None

    def of(self, name: str) -> T:
        """The value of the first rule that matches the whole of `name`."""
        for pattern, value in self.rules:
            if pattern.fullmatch(name):
                return value
        raise ValueError(f"{self.what}: no rule covers the parameter {name!r}")

    def tree(self, params: PyTree) -> PyTree:
        """A tree like `params` with each leaf's value in its place."""
        return jax.tree_util.tree_map_with_path(lambda path, _: self.of(name_of(path)), params)


def name_of(path: Sequence[Any]) -> str:
    """A tree path as one name, "blocks_0/norm1/scale"."""
    return "/".join(
        str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path
    )


def named_leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """(name, leaf) of every leaf, in the tree's order."""
    return [(name_of(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
