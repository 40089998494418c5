"""Fields that a file can't tell alone: how what it tells goes with what the caller says."""

from collections.abc import Mapping
from numbers import Integral
from typing import Any

# Published widths whose heads are not 64 wide: SO400M, huge, giant, gigantic.
_WIDE_HEADS = {1152: 16, 1280: 16, 1408: 16, 1664: 16}


def agree(told: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Both together. ValueError naming a field that the caller gives differently from the file."""
    for name, value in told.items():
        if name in given and given[name] != value:
            raise ValueError(f"{name}: got {given[name]!r}, but the file has {value!r}")
    return {**told, **given}


def number_of_heads(
    field: str,
    given: int | None,
    stored: int | None,
    width: int,
    published: Mapping[int, int],
    usual: bool = True,
) -> int:
    """The number of heads, which PyTorch's shapes don't tell.

    The caller's, else the configuration's, else that of published models of this width: the
    family's own, or the usual one. ValueError naming the field when there is none, when it does
    not divide the width, or when the caller's differs from the stored one.
    """
    if given is not None and not isinstance(given, Integral):
        raise ValueError(f"{field}: got {given!r}, expected a whole number")
    if given is not None and stored is not None and given != stored:
        raise ValueError(f"{field}: got {given}, but the file has {stored}")
    number = given or stored or published.get(width)
    if number is None and usual:
        number = usual_heads(width)
    if given == 0 or (number is not None and (number < 1 or width % number)):
        raise ValueError(
            f"{field}: {given if given == 0 else number} does not divide width {width}"
        )
    if number is None:
        raise ValueError(f"{field}: shapes don't tell it for width {width}; pass {field}=")
    return number


def usual_heads(width: int) -> int | None:
    """Heads of the published models of this width; None where sizes differ between publishers."""
    if width < 192 or width % 64:
        return _WIDE_HEADS.get(width)
    return _WIDE_HEADS.get(width, width // 64)


def classes_of(found: int, given: int | None) -> int:
    """The classes of the file's head; 0 where there is none or the caller drops it."""
    if given not in (None, 0, found):
        what = f"a head of {found} classes" if found else "no head"
        raise ValueError(f"num_classes: got {given}, but the file has {what}; 0 loads without one")
    return found if given is None else given
