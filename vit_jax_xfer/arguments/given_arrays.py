"""Arguments that are arrays, or trees of them: what else comes is told by the argument's name."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # a worker that prepares images has no jax
    import jax


def given_array(field: str, value: Any) -> "jax.Array":
    """The array that an argument is. ValueError, naming the field, for what is none."""
    import jax.numpy as jnp

    try:
        return jnp.asarray(value)
    except (TypeError, ValueError):
        raise ValueError(_none(field, value)) from None


def host_array(field: str, value: Any, dtype: Any = None) -> np.ndarray:
    """`given_array` on the host, of numbers; dtype: None = its own."""
    try:
        found = np.asarray(value)
        if found.dtype.kind not in "OSU":  # objects, as None is, texts
            return found if dtype is None else found.astype(dtype)
    except (TypeError, ValueError):
        pass
    raise ValueError(_none(field, value))


def check_variables(field: str, value: Any) -> None:
    """ValueError, naming the field, unless a value is a network's variables, by collections.

    None at all are right: a caller may ask what needs no weights.
    """
    if isinstance(value, Mapping) and (not value or "params" in value):
        return
    lacks = isinstance(value, Mapping)
    said = "a mapping without 'params'" if lacks else f"a {type(value).__name__}"
    raise ValueError(
        f"{field}: got {said}, expected {{'params': …}}, as load_pretrained and model.init give it"
    )


def _none(field: str, value: Any) -> str:
    said = repr(value) if isinstance(value, str) or value is None else f"a {type(value).__name__}"
    files = "; vjx.preprocess(model, paths) reads files" if field == "images" else ""
    return f"{field}: got {said}, expected an array of numbers{files}"
