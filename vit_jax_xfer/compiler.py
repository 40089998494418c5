"""Options of XLA's compiler beyond its defaults, by backend."""

import jax


def compiler_options(backend: str | None = None) -> dict[str, str]:
    """Options that make a step faster: `jax.jit(step, compiler_options=vjx.compiler_options())`.

    backend: "cpu" | "gpu" | "tpu", None = the default one. On a CPU barriers between blocks are
    kept until operations have been fused (see models/transformer/stack.py), which also makes
    `remat` save memory there. They change no result but for rounding. {} where the defaults are
    best.
    """
    backend = jax.default_backend() if backend is None else backend
    return {"xla_disable_hlo_passes": "cse_barrier_expander"} if backend == "cpu" else {}


def options_of_one_run(backend: str | None = None) -> dict[str, int]:
    """Options for a program that runs once, as the one that makes a state: soon compiled.

    On a CPU in half to three quarters of the time, with the same numbers where that was measured
    (benchmarks/NOTES.md). backend: as above.
    """
    backend = jax.default_backend() if backend is None else backend
    return {"xla_backend_optimization_level": 1} if backend == "cpu" else {}
