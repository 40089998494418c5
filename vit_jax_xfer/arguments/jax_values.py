"""Whether a value is jax's, told without importing it: workers that prepare images have none."""

import sys
from typing import Any


def is_traced(value: Any) -> bool:
    """Whether a value stands for an array that is not there yet."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)


def is_jax_array(value: Any) -> bool:
    """Whether a value is an array of jax's that is there."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.Array) and not is_traced(value)
