"""Test settings: CPU, eight fake devices, exact products, quick compilation, shared data."""

import functools
import gc
import importlib.util
import json
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.quick_flags import quick_flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(".cache/jax").absolute()))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
# Compilation is most of the suite's time, and machine code as it comes takes half as long to make.
# The arrays of a program, what devices exchange and its memory are the same (docs/testing.md).
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if quick_flags():
    os.environ.setdefault("XLA_FLAGS", quick_flags())
# Where in Python an operation comes from is written into every program, a tenth of tracing's time.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")

import flax.linen as nn
import jax
import numpy as np
import pytest
from orbax.checkpoint import type_handlers

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
SHARED = ROOT.parent / "shared"
BEGUN = time.monotonic()

# Files that take longest: two workers that begin with them end together.
LONGEST = (
    "train/test_wiring.py",
    "train/test_resume.py",
    "tasks/test_feature_upsampling.py",
    "train/test_devices.py",
    "train/test_kept_checkpoints.py",
    "tasks/test_task_runs.py",
    "train/test_processes.py",
    "transfer/test_native_parts.py",
    "models/filter/test_filter_training.py",
)


# Orbax cuts each replicated array for its devices with a program for each cut: 88 for a tiny run.
# What runs in processes of its own (runs.start) is written in cuts.
type_handlers.get_type_handler(jax.Array)._min_slice_bytes_for_replica_parallel = 2**20

_INIT = nn.Module.init
_COMPILED_INIT = jax.jit(_INIT, static_argnums=0)


def _init(self: nn.Module, rngs: Any, *args: Any, **kwargs: Any) -> Any:
    """`Module.init` as one program for each network and shapes.

    Outside of jit each shape's draw is a program of its own: seconds for the smallest network.
    """
    arrays = (rngs, *args)
    plain = all(isinstance(x, jax.Array | np.ndarray) for x in jax.tree.leaves(arrays))
    if kwargs or not plain or any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(arrays)):
        return _INIT(self, rngs, *args, **kwargs)
    return _COMPILED_INIT(self, rngs, *args)


nn.Module.init = _init


def pytest_addoption(parser: pytest.Parser) -> None:
    """--stop-after: for CI, whose time is bounded."""
    text = "skip what has not begun after so many seconds"
    parser.addoption("--stop-after", type=float, default=math.inf, metavar="SECONDS", help=text)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips what has not begun in time."""
    limit = item.config.getoption("--stop-after")
    if time.monotonic() - BEGUN > limit:
        pytest.skip(f"no time left: --stop-after={limit:g}")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the slow tier; puts long files first, in the order of LONGEST."""
    from tests.tiers import is_slow

    for item in items:
        if is_slow(item):
            item.add_marker(pytest.mark.slow)
    place = {str(ROOT / "tests" / name): i for i, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(str(item.path), len(place)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None):
    """After each file what is alive is taken from the garbage collector's rounds.

    In a process full of traces a round takes seconds.
    """
    result = yield
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()
    return result


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
