"""Faults that are put in on purpose stay where the code is."""

import pytest

from tests.mutants.__main__ import MUTANTS, check


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_stands_in_the_code_once(mutant):
    check(mutant)
