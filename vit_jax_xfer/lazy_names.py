"""Namespaces whose names are imported when they are first used."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_names(
    namespace: str, where: Mapping[str, str], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of the module `namespace`.

    where: {name: the module that has it}. modules: the namespace's own submodules that are reached
    as attributes. A package must have no submodule by one of `where`'s names: Python would put the
    module in the name's place.
    """

    def find(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{namespace}.{name}")
        if name not in where:
            raise AttributeError(f"module {namespace!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(where[name]), name)
        setattr(sys.modules[namespace], name, value)
        return value

    def names() -> list[str]:
        # Without what the module has imported itself, so that a tab completes public names alone.
        own = (name for name in vars(sys.modules[namespace]) if name.startswith("__"))
        return sorted({*own, *where, *modules})

    return find, names
