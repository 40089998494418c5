"""The list of slow tests names tests that there are."""

import re

import pytest

from tests.runs import ROOT
from tests.tiers import SLOW


@pytest.mark.parametrize("file", SLOW)
def test_the_slow_tests_are_there(file):
    text = (ROOT / "tests" / file).read_text()
    assert SLOW[file].keys() <= set(re.findall(r"^def (test_\w+)\(", text, re.MULTILINE))
