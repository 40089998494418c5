"""Two tiers of tests: `make test` runs the quick one, `make test-all` everything (docs/testing.md).

A product of cases keeps in the quick tier those that run every code path once; the rest is slow.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def quick(cases: Iterable[Any], chosen: Callable[[Any], bool] | Sequence[Any]) -> list[Any]:
    """Cases as parameters of a test, of which all but the chosen ones are slow.

    cases: what `pytest.mark.parametrize` takes: values, or tuples of them. chosen: the quick ones,
    or which are, as a function of a case; at least one must be.
    """
    cases = list(cases)
    is_quick = chosen if callable(chosen) else lambda case: case in chosen
    kept = [bool(is_quick(case)) for case in cases]
    assert any(kept) and (callable(chosen) or sum(kept) >= len(chosen)), "no such case"
    return [case if keep else _slow(case) for case, keep in zip(cases, kept, strict=True)]


def every_pair(*values: Sequence[Any]) -> list[Any]:
    """The product of values, of which a few that hold every pair of two of them are quick."""
    cases = list(itertools.product(*map(range, map(len, values))))
    missing = {pair for case in cases for pair in _pairs(case)}
    chosen = set()
    while missing:
        best = max(cases, key=lambda case: len(missing & _pairs(case)))
        chosen.add(best)
        missing -= _pairs(best)
    found = [tuple(row[i] for row, i in zip(values, case, strict=True)) for case in cases]
    return [case if at in chosen else _slow(case) for at, case in zip(cases, found, strict=True)]


def _pairs(case: tuple[int, ...]) -> set[tuple[Any, Any]]:
    return set(itertools.combinations(enumerate(case), 2))


def _slow(case: Any) -> Any:
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
