"""PyTorch's default initialisers, with which the published networks learned."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

# U(±1/√fan_in), of linear layers and convolutions alike.
TORCH_KERNEL = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def torch_bias(fan_in: int) -> Any:
    """The initialiser of such a layer's bias: U(±1/√fan_in)."""

    def init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
        bound = fan_in**-0.5
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init
