"""Options of XLA's compiler beyond its defaults, by backend and by what a program multiplies."""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

# Of YNNPACK, which XLA takes on CPUs for sums and products: sums alone, so that Eigen multiplies.
LIBRARY = "xla_cpu_experimental_ynn_fusion_type"
SUMS_ALONE = "LIBRARY_FUSION_TYPE_REDUCE"
# Rows of a float32 product's first factor from which Eigen is the faster one on the Intel processor
# where both were measured (benchmarks/NOTES.md); with one image's 197 YNNPACK is, by a little. Of a
# kernel's gradient they are the kernel's outputs, so that a training step of ViT-S is always large.
ROWS = 1024


def compiler_options(
    backend: str | None = None, program: jax.stages.Traced | None = None
) -> dict[str, str]:
    """Options that make a step faster: `jax.jit(step, compiler_options=vjx.compiler_options())`.

    backend: "cpu" | "gpu" | "tpu", None = the default one. On a CPU barriers between blocks are
    kept until operations have been fused (see models/transformer/stack.py), which also makes
    `remat` save memory there. program: as `jax.jit(step).trace(…)` gives it; on Intel's processors
    its products choose the library that multiplies. They change no result but for rounding. {}
    where the defaults are best.
    """
    backend = jax.default_backend() if backend is None else backend
    if backend != "cpu":
        return {}
    found = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    if program is not None and _by_intel() and _large_float32(program.jaxpr) and _known():
        found[LIBRARY] = SUMS_ALONE
    return found


def compiled(program: jax.stages.Traced, backend: str | None = None) -> jax.stages.Compiled:
    """A traced program, compiled with its `compiler_options`."""
    return program.lower().compile(compiler_options(backend, program))


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


def _large_float32(program: jex.ClosedJaxpr) -> bool:
    """Whether all products are of float32, and one of them has ROWS rows.

    XLA has none of bfloat16 with a float32 result but YNNPACK's that is as fast.
    """
    found = list(_products(program.jaxpr))
    return all(exact for exact, _ in found) and any(rows >= ROWS for _, rows in found)


def _products(program: jex.Jaxpr) -> Iterator[tuple[bool, int]]:
    """Of each product whether its factors are float32, and the first one's rows."""
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            first, second = (one.aval for one in equation.invars)
            (summed, _), (batched, _) = equation.params["dimension_numbers"]
            kept = set(range(first.ndim)) - {*summed, *batched}
            exact = first.dtype == second.dtype == jnp.float32
            yield exact, math.prod(first.shape[axis] for axis in kept)
        for inner in programs_inside(equation.params):
            yield from _products(inner)


@functools.cache
def _by_intel() -> bool:
    """Whether this machine's processor says so, as Linux tells."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@functools.cache
def _known() -> bool:
    """Whether this version of XLA has the option: it is an experimental one."""
    try:
        jax.jit(lambda: 0).lower().compile({LIBRARY: SUMS_ALONE})
    except Exception:  # noqa: BLE001 -- of no stable type; without the option all goes as before
        return False
    return True
