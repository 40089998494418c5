"""Teachers that are not at hand: the shapes of a named network, to plan a run with."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.registry import create_model, list_models
from vit_jax_xfer.tasks.task import Variables
from vit_jax_xfer.tasks.teachers import Loader, load_weights


def placeholder_loader(fields: Mapping[str, Mapping[str, Any]]) -> Loader:
    """Loads checkpoints as `load_weights` does, and takes a model's name for zeros in its shapes.

    fields: by model name, those that differ from the named network's own.
    """

    def load(
        field: str, path: str, num_heads: int = 0, family: str = ""
    ) -> tuple[Network, Variables]:
        if path not in list_models():
            try:
                return load_weights(field, path, num_heads, family)
            except ValueError as error:
                raise ValueError(f"{error}; the name of a network would do here") from None
        heads = {"num_heads": num_heads} if num_heads else {}
        model = create_model(path, **{**fields.get(path, {}), **heads})
        return model, zeros_of(model)

    return load


def zeros_of(model: Network) -> Variables:
    """Zeros on the host in the shapes of a network's variables, which take no memory."""
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), shapes)
