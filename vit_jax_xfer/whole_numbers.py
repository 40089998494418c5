"""Arguments that count something: a fraction is refused, and never cut."""

import operator
from typing import Any


def is_whole(value: Any) -> bool:
    """Whether a value counts: whole by its type, for 2.0 is no index either."""
    try:
        operator.index(value)
    except TypeError:
        return False
    return True


def check_whole(field: str, value: Any, least: int = 1) -> None:
    """ValueError, naming the field, unless its value is a whole number from `least` on."""
    if not is_whole(value) or value < least:
        raise ValueError(f"{field}: got {value!r}, expected a whole number from {least} on")


def check_each_whole(least: int, **fields: Any) -> None:
    """`check_whole` of several, by their names."""
    for field, value in fields.items():
        check_whole(field, value, least)
