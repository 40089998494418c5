"""Which numbers make sense: the ranges of networks' fields, and how a number is held to one."""

import dataclasses
import math
import numbers
from collections.abc import Iterator, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class NumberRange:
    """Finite numbers between two ends, and some `others` beside. words: "expected …"."""

    words: str
    least: float = -math.inf
    most: float = math.inf
    without_least: bool = False
    without_most: bool = False
    others: tuple[float, ...] = ()

    def __contains__(self, number: float) -> bool:
        if number in self.others:
            return True
        if not -math.inf < number < math.inf:  # nor is NaN
            return False
        above = number > self.least if self.without_least else number >= self.least
        below = number < self.most if self.without_most else number <= self.most
        return above and below


FINITE = NumberRange("a finite number")
COUNT = NumberRange("1 or more", 1)
FROM_ZERO = NumberRange("0 or more", 0)
POSITIVE = NumberRange("more than 0", 0, without_least=True)
SHARE = NumberRange("from 0 to 1", 0, 1)
BELOW_ONE = NumberRange("from 0 to below 1", 0, 1, without_most=True)
BETWEEN = NumberRange("between 0 and 1", 0, 1, without_least=True, without_most=True)
_KEPT = NumberRange("a number of tokens or a share of them", 0)

# Every number that a network of the table has as a field; of a tuple, each number in it.
NETWORK_RANGES: dict[str, NumberRange] = {
    # Any transformer's.
    "image_size": COUNT,
    "position_size": COUNT,
    "patch_size": COUNT,
    "patch_stride": COUNT,
    "width": COUNT,
    "depth": COUNT,
    "num_heads": COUNT,
    "mlp_dim": COUNT,
    "num_classes": FROM_ZERO,
    "in_channels": COUNT,
    "norm_eps": FROM_ZERO,
    "drop_path": BELOW_ONE,
    "head_init_std": FROM_ZERO,
    "layer_scale": FROM_ZERO,
    "registers": FROM_ZERO,
    "rotary_base": POSITIVE,
    "rotary_grid": COUNT,
    "window_size": FROM_ZERO,
    "window_blocks": FROM_ZERO,
    "conv_blocks": FROM_ZERO,
    "blockwise_above": FROM_ZERO,
    # A masked autoencoder's.
    "decoder_width": COUNT,
    "decoder_depth": FROM_ZERO,
    "decoder_num_heads": COUNT,
    "decoder_mlp_dim": COUNT,
    # FilterViT's.
    "stem_width": COUNT,
    "stem_expand": COUNT,
    "stem_stride": COUNT,
    "stem_grid": FROM_ZERO,
    "head_width": FROM_ZERO,
    "keep": _KEPT,
    "dropout": BELOW_ONE,
    "head_dropout": BELOW_ONE,
    # Those of networks that double features.
    "hidden": COUNT,
    "key_width": COUNT,
    "radius": COUNT,
    # Those of networks that say where things are.
    "layers": FINITE,
    "pyramid_width": COUNT,
    "region_hidden": COUNT,
    "centre_depth": FROM_ZERO,
    "anchor_scale": POSITIVE,
    "proposals": COUNT,
    "regions": COUNT,
    "max_detections": COUNT,
    "score_threshold": SHARE,
    "suppression_overlap": SHARE,
    "channels": COUNT,
    "classifier_dropout": BELOW_ONE,
}


def check_number(field: str, value: Any, allowed: NumberRange) -> None:
    """ValueError, naming the field, unless each number in a value is within a range."""
    if any(number not in allowed for number in _numbers(value)):
        raise ValueError(f"{field}: got {value}, expected {allowed.words}")


def check_network_numbers(fields: Mapping[str, Any]) -> None:
    """`check_number` for the fields of a network, by name; unknown ones may be any finite ones."""
    for field, value in fields.items():
        check_number(field, value, NETWORK_RANGES.get(field, FINITE))


def _numbers(value: Any) -> Iterator[float]:
    """The numbers in a value and in the tuples in it; neither True nor text is one."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _numbers(part)
    elif isinstance(value, numbers.Real) and not isinstance(value, bool):
        yield value
