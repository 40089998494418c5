"""A network for users of Flax NNX, by Flax's own bridge."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from flax import nnx
from flax.nnx.bridge import variables as bridged


def to_nnx(
    model: nn.Module, variables: Mapping[str, Any], rngs: nnx.Rngs | None = None
) -> nnx.Module:
    """The network with its variables as one `nnx.Module`, which is called with images alone.

    Its parameters are `nnx.Param`, other collections `nnx.Variable`, so that `nnx.grad`, `nnx.jit`,
    `nnx.state` and optimizers work on it. rngs: what train=True draws from, as
    nnx.Rngs(dropout=0); None = given with each call.
    A collection that a call makes mutable, mutable=["attention"], stays in it as variables.
    ValueError for variables without parameters.
    """
    if not variables.get("params"):
        raise ValueError(f"variables: expected {{'params': …}}, got {', '.join(variables) or '{}'}")
    module = nnx.bridge.ToNNX(model, rngs)
    for name, value in bridged.linen_vars_to_nnx_attrs(dict(variables)).items():
        setattr(module, name, value)
    return module
