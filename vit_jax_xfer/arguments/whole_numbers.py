"""Arguments that are numbers: of those that count a fraction is refused, and never cut."""

import math
import numbers
import operator
from typing import Any

from vit_jax_xfer.arguments.jax_values import is_traced


def is_whole(value: Any) -> bool:
    """Whether a value counts: whole by its type, for 2.0 is no index either, and True no number."""
    if isinstance(value, bool):
        return False
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def check_whole(field: str, value: Any, least: int = 1) -> None:
    """ValueError, naming the field, unless its value is a whole number from `least` on."""
    if not is_whole(value) or value < least:
        raise ValueError(f"{field}: got {value!r}, expected a whole number from {least} on")


def check_number(field: str, value: Any) -> None:
    """ValueError, naming the field, for what is no number, or none that is finite.

    Of an array without axes, as jax's numbers are, its value counts; what is traced is let by.
    """
    if is_traced(value):
        return
    plain = value.item() if getattr(value, "shape", None) == () else value
    known = isinstance(plain, numbers.Real) and not isinstance(plain, bool)
    if not known or not math.isfinite(plain):
        raise ValueError(f"{field}: got {value!r}, expected a number")


def check_each_whole(least: int, **fields: Any) -> None:
    """`check_whole` of several, by their names."""
    for field, value in fields.items():
        check_whole(field, value, least)
