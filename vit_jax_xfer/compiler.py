"""Options of XLA's compiler beyond its defaults, by backend and by what a program multiplies."""

import functools
import math
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp

# Of YNNPACK, which XLA takes on CPUs for sums and products: sums alone, so that Eigen multiplies.
BY_EIGEN = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
# oneDNN, each product by itself: with what follows a product (DOT) some programs abort.
BY_ONEDNN = BY_EIGEN | {
    "xla_cpu_use_onednn": True,
    "xla_cpu_experimental_onednn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
}
LIBRARIES: dict[str, dict[str, Any]] = {"YNNPACK": {}, "Eigen": BY_EIGEN, "oneDNN": BY_ONEDNN}
# Of the environment: one of LIBRARIES for every program of float32 products on a CPU.
VARIABLE = "VIT_JAX_XFER_CPU_PRODUCTS"
# Measured on an Intel processor (benchmarks/NOTES.md): oneDNN is the fastest of the three where all
# sides of the largest product are at least WIDE, as a transformer's; narrower ones are Eigen's from
# ROWS of the first factor on (of a kernel's gradient the kernel's outputs), else YNNPACK's.
WIDE = 128
ROWS = 1024


class Product(NamedTuple):
    """`count` products of (rows, summed) by (summed, columns)."""

    count: int
    rows: int
    summed: int
    columns: int
    exact: bool  # both factors are float32


def compiler_options(
    backend: str | None = None,
    program: jax.stages.Traced | None = None,
    library: str | None = None,
) -> dict[str, Any]:
    """Options that make a step faster: `jax.jit(step, compiler_options=vjx.compiler_options())`.

    backend: "cpu" | "gpu" | "tpu", None = the default one. On a CPU barriers between blocks are
    kept until operations have been fused (see models/transformer/stack.py), which also makes
    `remat` save memory there. program: as `jax.jit(step).trace(…)` gives it; on Intel's processors
    its products choose the library that multiplies. library: of LIBRARIES, which one takes them
    where all are float32; None = as the environment's VIT_JAX_XFER_CPU_PRODUCTS says. They change
    no result but for rounding. {} where the defaults are best. ValueError for an unknown library.
    """
    backend = jax.default_backend() if backend is None else backend
    if backend != "cpu":
        return {}
    found: dict[str, Any] = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return found if program is None else found | _library(program.jaxpr.jaxpr, library)


def compiled(program: jax.stages.Traced, backend: str | None = None) -> jax.stages.Compiled:
    """A traced program, compiled with its `compiler_options`."""
    return program.lower().compile(compiler_options(backend, program))


class Jitted:
    """`jax.jit(function, …)` whose `compiler_options` are those of the first call's products.

    Of the first call with each value of the static arguments, such as a network; other shapes are
    compiled with the same options. backend: where it runs, None = the default one.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        backend: str | None = None,
        static_argnums: tuple[int, ...] = (),
        **settings: Any,
    ) -> None:
        self._backend, self._static = backend, static_argnums
        self._jit = functools.partial(
            jax.jit, function, static_argnums=static_argnums or None, **settings
        )
        self._plain = self._jit()
        self._chosen: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def trace(self, *arguments: Any) -> jax.stages.Traced:
        """The program for such arguments, before any compiler saw it."""
        return self._plain.trace(*arguments)

    def __call__(self, *arguments: Any) -> Any:
        """The function's result."""
        static = tuple(arguments[place] for place in self._static)
        if static not in self._chosen:
            options = compiler_options(self._backend, self.trace(*arguments))
            self._chosen[static] = self._jit(compiler_options=options)
        return self._chosen[static](*arguments)


def options_of_one_run(backend: str | None = None) -> dict[str, int]:
    """Options for a program that runs once, as the one that makes a state: soon compiled.

    On a CPU in half to three quarters of the time, with the same numbers where that was measured
    (benchmarks/NOTES.md). backend: as above.
    """
    backend = jax.default_backend() if backend is None else backend
    return {"xla_backend_optimization_level": 1} if backend == "cpu" else {}


def programs_inside(params: dict[str, Any]) -> Iterator[jex.Jaxpr]:
    """The programs among an equation's parameters: branches, bodies, functions."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, jex.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, jex.Jaxpr):
                yield item


def _library(program: jex.Jaxpr, asked: str | None) -> dict[str, Any]:
    """Options for the library that multiplies, {} for YNNPACK, XLA's own choice.

    It alone has products of bfloat16 with a float32 result that are as fast.
    """
    field = VARIABLE if asked is None else "library"
    asked = os.environ.get(VARIABLE) or None if asked is None else asked
    if asked is not None and asked not in LIBRARIES:
        raise ValueError(f"{field}: {asked!r} is none of {', '.join(LIBRARIES)}")
    if asked is not None and not _known(asked):
        raise ValueError(f"{field}: the XLA of jax {jax.__version__} has no choice of {asked}")
    found = list(_products(program))
    if not found or not all(one.exact for one in found):
        return {}
    chosen = _fastest(found) if asked is None else asked
    if chosen == "oneDNN":
        # JAX warns of each program that it can't keep in a user's cache on disk.
        unkept = "Error writing persistent compilation cache entry.*onednn"
        warnings.filterwarnings("ignore", unkept, UserWarning)
    return LIBRARIES[chosen]


def _fastest(found: list[Product]) -> str:
    """Which of LIBRARIES multiplies fastest on this machine, as far as it was measured."""
    if not _by_intel():
        return "YNNPACK"
    largest = max(found, key=lambda one: math.prod(one[:4]))
    # JAX may have been told to raise where it can't keep a program in a cache on disk.
    strict = jax.config.jax_raise_persistent_cache_errors
    if min(largest[1:4]) >= WIDE and not strict and _known("oneDNN"):
        return "oneDNN"
    if any(one.rows >= ROWS for one in found) and _known("Eigen"):
        return "Eigen"
    return "YNNPACK"


def _products(program: jex.Jaxpr) -> Iterator[Product]:
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            first, second = (one.aval for one in equation.invars)
            (summed, summed_too), (batched, batched_too) = equation.params["dimension_numbers"]
            yield Product(
                math.prod(first.shape[axis] for axis in batched),
                _free(first.shape, summed, batched),
                math.prod(first.shape[axis] for axis in summed),
                _free(second.shape, summed_too, batched_too),
                exact=first.dtype == second.dtype == jnp.float32,
            )
        for inner in programs_inside(equation.params):
            yield from _products(inner)


def _free(shape: tuple[int, ...], summed: tuple[int, ...], batched: tuple[int, ...]) -> int:
    """The product of the axes that a result keeps of one factor alone."""
    return math.prod(shape[axis] for axis in set(range(len(shape))) - {*summed, *batched})


@functools.cache
def _by_intel() -> bool:
    """Whether this machine's processor says so, as Linux tells."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@functools.cache
def _known(library: str) -> bool:
    """Whether this version of XLA has the options: they are experimental ones."""
    try:
        jax.jit(lambda: 0).lower().compile(LIBRARIES[library])
    except Exception:  # noqa: BLE001 -- of no stable type; without them all goes as before
        return False
    return True
