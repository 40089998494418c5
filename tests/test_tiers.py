"""Which cases of a product are quick."""

import itertools

from tests.tiers import every_pair, quick


def values_of(cases, slow):
    return [
        case.values if hasattr(case, "values") else case
        for case in cases
        if slow is hasattr(case, "values")
    ]


def test_what_is_not_chosen_is_slow():
    for chosen in ([2, 5], lambda case: case in (2, 5)):
        cases = quick(range(6), chosen)
        assert values_of(cases, slow=False) == [2, 5]
        assert values_of(cases, slow=True) == [(0,), (1,), (3,), (4,)]
        assert all(mark.name == "slow" for mark in cases[0].marks)


def test_few_cases_hold_every_pair_and_none_is_lost():
    given = "ab", (1, 2, 3), (True, False)
    cases = every_pair(*given)
    product = list(itertools.product(*given))
    few = values_of(cases, slow=False)
    assert [case.values if hasattr(case, "values") else case for case in cases] == product
    assert len(few) == 6
    for i, j in itertools.combinations(range(3), 2):
        assert {(case[i], case[j]) for case in few} == {(case[i], case[j]) for case in product}
