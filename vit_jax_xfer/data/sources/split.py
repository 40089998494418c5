"""Split strings such as "train", "train[:50%]" and "test[100:200]"."""

import re

import numpy as np

_SPLIT = re.compile(r"([^\[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")


def split_name(split: str) -> str:
    """The part of `split` before any range: "train[:50%]" → "train".

    Raises ValueError where the string has another form, for instance two ranges.
    """
    return _match(split).group(1)


def split_range(split: str, size: int) -> np.ndarray | None:
    """The indices which the range of `split` keeps of `size` examples; None without a range.

    Returns int64 (n,). Percents round to the closest example and negative bounds count from the
    end, as in tensorflow_datasets, so that "[:30%]" and "[30%:]" meet without gap or overlap.
    Raises ValueError where nothing is left.
    """
    _, start, stop = _match(split).groups()
    if "[" not in split:
        return None
    indices = np.arange(size)[slice(_bound(start, size), _bound(stop, size))]
    if not len(indices):
        raise ValueError(f"split: {split!r} keeps none of the {size} examples")
    return indices


def _match(split: str) -> re.Match:
    match = _SPLIT.fullmatch(split.strip())
    if match is None:
        raise ValueError(
            f"split: got {split!r}, expected a name with an optional range such as train[:50%]"
        )
    return match


def _bound(text: str | None, size: int) -> int | None:
    if text is None:
        return None
    if text.endswith("%"):
        return round(size * int(text[:-1]) / 100)
    return int(text)
