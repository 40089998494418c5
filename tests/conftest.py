"""Test settings: CPU, eight fake devices, exact products, a compilation cache, shared data."""

import functools
import importlib.util
import json
import os
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(".cache/jax").absolute()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> pathlib.Path:
    """The folder of reference outputs and real images beside the checkout."""
    if not SHARED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"CI must have the reference folder {SHARED}")
        pytest.skip(f"needs the reference folder {SHARED}, which is not here")
    return SHARED


class Case(NamedTuple):
    """A reference case: what the model is, inputs and outputs, {publisher's name: array}."""

    meta: dict[str, Any]
    arrays: dict[str, np.ndarray]
    state: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def golden_case(shared: pathlib.Path) -> Callable[[str], Case]:
    """golden_case(name) → a reference case, its weights rebuilt from their seed."""
    spec = importlib.util.spec_from_file_location("golden_weights", shared / "golden/weights.py")
    weights: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(weights)

    @functools.cache
    def load(name: str) -> Case:
        folder = shared / "golden" / name
        meta = json.loads((folder / "spec.json").read_text())["meta"]
        return Case(meta, dict(np.load(folder / "io.npz")), weights.state_dict(folder))

    def copy(name: str) -> Case:
        case = load(name)
        return case._replace(state=dict(case.state))  # tests rename and remove

    return copy


@pytest.fixture(scope="session")
def golden(golden_case: Callable[[str], Case]) -> Callable[[str], dict[str, np.ndarray]]:
    """golden(name) → {publisher's name: array} of a case; of a pair of models, the student's."""

    def state_dict(name: str) -> dict[str, np.ndarray]:
        state = golden_case(name).state
        student = {k[8:]: x for k, x in state.items() if k.startswith("student.")}
        return student or state

    return state_dict
