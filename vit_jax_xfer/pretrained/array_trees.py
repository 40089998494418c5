"""Nested mappings of arrays, as JAX's users hold parameters → flat names: "Transformer/cls"."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vit_jax_xfer.pretrained.lazy_arrays import is_array

# More than any training state has: mappings that hold one another have no end.
_MOST_NODES = 300_000
_DEEPEST = 64


def leaves(tree: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    """(flat name, value) of everything in a tree that holds nothing further.

    A key may be a tuple of names; lists are mappings from their numbers. ValueError where there is
    no end.
    """
    waiting: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    for _ in range(_MOST_NODES):
        if not waiting:
            return
        path, value = waiting.pop()
        if hasattr(value, "unbox"):  # Flax's arrays with names for their axes
            value = value.unbox()
        inner = _inner(value)
        if inner is None:
            yield "/".join(path), value
        elif len(path) > _DEEPEST:
            break
        else:
            waiting += reversed([((*path, _name(key)), one) for key, one in inner])
    raise ValueError("mappings in one another without an end")


def count_arrays(value: Any) -> int:
    """How many arrays are in a value: itself, or in it as a tree."""
    return sum(is_array(one) for _, one in leaves(value))


def is_tree(content: Mapping[Any, Any]) -> bool:
    """Whether arrays lie in mappings inside, or under tuples of names: no state dict's names."""
    if any(isinstance(key, tuple) for key in content):
        return True
    nested = [value for value in content.values() if _inner(value)]
    return any(map(count_arrays, nested)) and not any(map(is_state_dict, nested))


def is_state_dict(value: Any) -> bool:
    """Whether a value holds arrays under PyTorch's names: "blocks.0.norm1.weight"."""
    return isinstance(value, Mapping) and any(
        "." in str(key) and is_array(one) for key, one in value.items()
    )


def flat_names(tree: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """{flat name: value} of a tree, without its empty places and Flax's boxes ("…/value").

    ValueError, which names `where`, where two names become one.
    """
    flat: dict[str, Any] = {}
    for name, value in leaves(tree):
        if name in flat:
            raise ValueError(f"{where}: {name} is there twice")
        if value is not None:
            flat[name] = value
    boxed = bool(flat) and all(name.endswith("/value") for name in flat)
    return {name.removesuffix("/value"): x for name, x in flat.items()} if boxed else flat


def nested(flat: Iterable[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    """The tree of paths. ValueError for a path that goes through a value."""
    tree: dict[str, Any] = {}
    for path, value in flat:
        place = tree
        for key in path[:-1]:
            place = place.setdefault(key, {})
            if not isinstance(place, dict):
                raise ValueError(f"{'/'.join(path)} lies inside of another value")
        place[path[-1]] = value
    return tree


def _inner(value: Any) -> list[tuple[Any, Any]] | None:
    """What a mapping holds, or a list of mappings or of arrays; None for what holds nothing."""
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, list | tuple) or is_array(value) or not value:
        return None
    holds = isinstance(value[0], Mapping) or is_array(value[0])
    return list(enumerate(value)) if holds else None


def _name(key: Any) -> str:
    return "/".join(map(str, key)) if isinstance(key, tuple) else str(key)
