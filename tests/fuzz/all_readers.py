"""Every reader that is fuzzed, by name."""

from tests.fuzz.layouts import LAYOUTS
from tests.fuzz.readers import READERS
from tests.fuzz.target_sources import TARGET_SOURCES
from tests.fuzz.weights import PREPARED, WEIGHTS

__all__ = ["ALL_READERS", "PREPARED"]

ALL_READERS = {**READERS, **LAYOUTS, **TARGET_SOURCES, **WEIGHTS}
