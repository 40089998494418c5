"""Teachers that are not at hand: the shapes of a named network, to plan a run with."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vit_jax_xfer.models.registry import create_model, list_models
from vit_jax_xfer.tasks.supervised import init_vit
from vit_jax_xfer.tasks.task import Variables
from vit_jax_xfer.tasks.teachers import Loader, load_weights


def placeholder_loader(fields: Mapping[str, Mapping[str, Any]]) -> Loader:
    """Loads checkpoints as `load_weights` does, and takes a model's name for zeros in its shapes.

    fields: by model name, those that differ from the named network's own.
    """

    def load(
        field: str, path: str, num_heads: int = 0, family: str = ""
    ) -> tuple[nn.Module, Variables]:
        if path not in list_models():
            try:
                return load_weights(field, path, num_heads, family)
            except ValueError as error:
                raise ValueError(f"{error}; the name of a network would do here") from None
        heads = {"num_heads": num_heads} if num_heads else {}
        model = create_model(path, **{**fields.get(path, {}), **heads})
        return model, zeros_of(model)

    return load


def zeros_of(model: nn.Module) -> Variables:
    """Zeros on the host in the shapes of a vision transformer's variables, which take no memory."""
    if hasattr(model, "encoder"):
        shapes = {"params": {"encoder": _shapes(model.encoder)["params"]}}
    else:
        shapes = _shapes(model)
    return jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), shapes)


def _shapes(model: nn.Module) -> Variables:
    return jax.eval_shape(lambda key: init_vit(model, key), jax.random.key(0))
