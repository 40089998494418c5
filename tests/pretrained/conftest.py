"""The reference weights, rebuilt from their seeds."""

import importlib.util
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def golden(shared: pathlib.Path) -> Callable[[str], dict[str, np.ndarray]]:
    """golden(case) → {publisher's name: array}; of a pair of models, the student's."""
    spec = importlib.util.spec_from_file_location("golden_weights", shared / "golden/weights.py")
    weights: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)

    def state_dict(case: str) -> dict[str, np.ndarray]:
        state = weights.state_dict(shared / "golden" / case)
        student = {k[8:]: x for k, x in state.items() if k.startswith("student.")}
        return student or state

    return state_dict
