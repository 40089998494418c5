"""Which of the teacher's layers and heads teach which of the student's, where numbers differ."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from vit_jax_xfer.arguments.whole_numbers import is_whole

MatchLayers = Literal["same", "even", "last", "first"]
MatchHeads = Literal["same", "average", "group"]
MATCH_LAYERS: tuple[str, ...] = get_args(MatchLayers)
MATCH_HEADS: tuple[str, ...] = get_args(MatchHeads)


def match_layers(
    how: str | tuple[int, ...], student_depth: int, teacher_depth: int, layers: Sequence[int]
) -> tuple[int, ...]:
    """The teacher's layer for each of the student's `layers`, all counted from 0.

    "same" wants equal depths; "even" spreads the student's layers evenly over the teacher's, last
    to last (TinyBERT, 1909.10351), halves rounded up; "last" and "first" align the ends; a tuple
    names one layer of the teacher for each, negative from the end. ValueError where none is.
    """
    if not isinstance(how, str):
        return _named(how, teacher_depth, layers)
    if how == "same" and student_depth != teacher_depth:
        raise ValueError(
            f"teacher: depth {teacher_depth} differs from the student's {student_depth}; "
            "match_layers pairs them: even, last, first, or one of its layers for each"
        )
    if how == "even":
        # In whole numbers: round((i + 1) · teacher / student) - 1, and never before the first.
        return tuple(
            max((2 * (i + 1) * teacher_depth + student_depth) // (2 * student_depth) - 1, 0)
            for i in layers
        )
    shift = teacher_depth - student_depth if how == "last" else 0
    for layer in layers:
        if not 0 <= layer + shift < teacher_depth:
            raise ValueError(
                f"match_layers: {how!r} leaves the student's layer {layer} without one of the "
                f"teacher's {teacher_depth}; choose its layers, or 'even'"
            )
    return tuple(layer + shift for layer in layers)


def _named(how: Sequence[int], depth: int, layers: Sequence[int]) -> tuple[int, ...]:
    if len(how) != len(layers):
        raise ValueError(
            f"match_layers: {tuple(how)} names {len(how)} of the teacher's layers for {len(layers)}"
            " of the student's; name one for each"
        )
    for layer in how:
        if not is_whole(layer) or not -depth <= layer < depth:
            raise ValueError(f"match_layers: {layer} is not a layer of a teacher of depth {depth}")
    return tuple(int(layer) % depth for layer in how)


class HeadMatch(NamedTuple):
    """The teacher's heads that take part, and into how many groups they fall.

    heads: in their order, None = all as they are. groups: the mean map of each contiguous group is
    the target of one of the student's heads; None = each head is a group; 1 = of all of them.
    """

    heads: tuple[int, ...] | None
    groups: int | None


def match_heads(
    how: str, student_heads: int, teacher_heads: int, chosen: Sequence[int] | None
) -> HeadMatch:
    """What the student's heads `chosen` (None = all) take from a teacher's; see `Transfer`."""
    if how == "average":
        return HeadMatch(None, 1)
    if student_heads == teacher_heads:
        return HeadMatch(None if chosen is None else tuple(chosen), None)
    if how == "same":
        raise ValueError(
            f"teacher: num_heads {teacher_heads} differs from the student's {student_heads}; "
            "match_heads pairs maps: group, average"
        )
    if teacher_heads % student_heads and student_heads % teacher_heads:
        raise ValueError(
            f"match_heads: 'group' needs one number of heads to divide the other, got "
            f"{teacher_heads} of the teacher and {student_heads} of the student; choose 'average'"
        )
    own = range(student_heads) if chosen is None else chosen
    if student_heads > teacher_heads:
        times = student_heads // teacher_heads
        return HeadMatch(tuple(head // times for head in own), None)
    size = teacher_heads // student_heads
    return HeadMatch(tuple(size * head + i for head in own for i in range(size)), len(own))
