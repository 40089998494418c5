"""Split strings such as "train", "train[:50%]", "test[100:200]" and "train[:80%,stratified]"."""

import re

import numpy as np

_STRATIFIED = ",stratified"
_SPLIT = re.compile(rf"([^\[\]]+)(?:\[(-?\d+%?)?:(-?\d+%?)?(?:{_STRATIFIED})?\])?")


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


def is_stratified(split: str) -> bool:
    """Whether a split's range is one of each class, as in "train[:80%,stratified]"."""
    return split.rstrip().endswith(f"{_STRATIFIED}]")


def stratified_range(split: str, labels: np.ndarray) -> np.ndarray:
    """The indices which a stratified range keeps: of each class the range, in one fixed shuffle.

    labels: int (N,), -1 counting as a class. Returns int64 (n,) ascending. A percentage leaves an
    example on either side of it where a class has two or more, and the only one of a class on the
    first, so that "[:80%,stratified]" and "[80%:,stratified]" have the same classes, meet without
    overlap, and hang on nothing but the labels. Raises ValueError where nothing is left.
    """
    _, start, stop = _match(split).groups()
    # RandomState: its permutations are frozen across numpy versions, unlike Generator's.
    order = np.random.RandomState(0).permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    ends = np.cumsum(np.unique(labels, return_counts=True)[1])
    kept = [
        members[slice(_bound_in_class(start, len(members)), _bound_in_class(stop, len(members)))]
        for members in np.split(by_class, ends[:-1])
    ]
    indices = np.sort(np.concatenate(kept))
    if not len(indices):
        raise ValueError(f"split: {split!r} keeps none of the {len(labels)} examples")
    return indices


def _match(split: str) -> re.Match:
    match = _SPLIT.fullmatch(split.strip())
    if match is None:
        raise ValueError(
            f"split: got {split!r}, expected a name with an optional range such as train[:50%] or "
            "train[:80%,stratified]"
        )
    return match


def _bound(text: str | None, size: int) -> int | None:
    if text is None:
        return None
    if text.endswith("%"):
        return round(size * int(text[:-1]) / 100)
    return int(text)


def _bound_in_class(text: str | None, size: int) -> int | None:
    bound = _bound(text, size)
    if text is None or text in ("0%", "100%") or not text.endswith("%"):
        return bound
    return max(1, min(bound + size if bound < 0 else bound, size - 1))
