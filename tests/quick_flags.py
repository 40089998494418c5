"""Flags of XLA with which a test's programs compile in half the time."""

import importlib.metadata


def quick_flags() -> str:
    """What XLA_FLAGS is set to before jax is imported; "" = nothing.

    The older emitters of XLA's CPU compiler, and its own loops in place of a library's kernels.
    jaxlib 0.12 lacks the first flag, and ends a process for it.
    """
    if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) >= (0, 12):
        return ""
    return "--xla_cpu_use_fusion_emitters=false --xla_cpu_use_xnnpack=false"
