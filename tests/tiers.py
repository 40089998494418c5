"""Two tiers of tests: `make test` runs the quick one, `make test-all` everything (docs/testing.md).

Of a product of cases, those stay in the quick tier that run every code path once; of whole runs,
those that no function's test and no field's (train/test_wiring.py) stands for. Chosen by what each
test took (slow_tier.toml); `python -m tests.mutants` says whether the quick tier still notices.
"""

import fnmatch
import pathlib
import tomllib

import pytest

# file: {test: patterns of its cases' ids that are quick}. All other tests are quick.
SLOW: dict[str, dict[str, list[str]]] = tomllib.loads(
    pathlib.Path(__file__).with_name("slow_tier.toml").read_text()
)


def is_slow(item: pytest.Item) -> bool:
    """Whether a collected test is of the second tier."""
    file = str(item.path).rpartition("/tests/")[2]
    name, _, case = item.name.partition("[")
    quick = SLOW.get(file, {}).get(name)
    return quick is not None and not any(fnmatch.fnmatch(case[:-1], one) for one in quick)
