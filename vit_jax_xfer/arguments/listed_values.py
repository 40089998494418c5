"""Arguments that are several values in order: any list of them is as good, a text is none."""

from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np

from vit_jax_xfer.arguments.jax_values import is_jax_array
from vit_jax_xfer.arguments.whole_numbers import is_whole


def listed(field: str, value: Any) -> tuple[Any, ...]:
    """Values in their order, of a list, a tuple, an array, a generator.

    ValueError, naming the field, for one value, for a text, and for what has no order or two sides,
    as sets and mappings have.
    """
    values = plain(value)
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise ValueError(f"{field}: got {value!r}, expected a list")
    return tuple(values)


def listed_numbers(field: str, value: Any) -> tuple[Any, ...]:
    """Whole numbers in their order, as Python's; one is as good as a list of it.

    What is no whole number stays as it is, for the caller knows which there are.
    """
    values = (value,) if is_whole(value) else listed(field, value)
    return tuple(int(one) if is_whole(one) else one for one in values)


def plain(value: Any) -> Any:
    """A value without numpy's and jax's types: numbers as Python's, arrays and ranges as lists."""
    if isinstance(value, range):
        return list(value)
    known = isinstance(value, np.generic | np.ndarray) or is_jax_array(value)
    return value.tolist() if known else value
