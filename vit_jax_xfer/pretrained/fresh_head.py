"""A head for other classes than the weights have: theirs is left out, another starts afresh."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.pretrained.loading_notes import note

Params = dict[str, Any]


def parts_afresh(model: Network, stored: int) -> tuple[str, ...]:
    """The model's heads, where they are for other classes than the stored one, which is said."""
    if model.num_classes in (0, stored):
        return ()
    theirs = f"the head of {stored} classes is left out" if stored else "the weights have no head"
    note(f"num_classes: {theirs}; one of {model.num_classes} starts afresh")
    return tuple(model.heads)


def draw_afresh(model: Network, parts: Sequence[str], seed: int) -> Params:
    """These parts of the parameters as `model.init(jax.random.key(seed), …)` draws them, numpy.

    A part that the model lacks is left out. Nothing else of the model is made.
    """
    if not parts:
        return {}
    # Blocks traced once; the draw of a parameter hangs on its name alone.
    scanned = model.with_fields(scan=True) if model.blocks_alike else model

    def draw(key: jax.Array) -> Params:
        params = scanned.init_variables(key)["params"]
        return {name: params[name] for name in parts if name in params}

    return jax.tree.map(np.array, jax.jit(draw)(jax.random.key(seed)))


def with_classes(
    model: Network, variables: Mapping[str, Any], num_classes: int, seed: int
) -> tuple[Network, dict[str, Any]]:
    """A model whose head is for so many classes, drawn afresh; 0 = without one.

    ValueError for a network that has no such head.
    """
    if "num_classes" not in model.keywords() or model.predicts != "classes":
        raise ValueError(f"num_classes: a {model.kind} has no head for classes; leave it out")
    changed = model.with_fields(num_classes=num_classes, class_names=None)
    drawn = draw_afresh(changed, parts_afresh(changed, model.num_classes), seed)
    shapes = jax.eval_shape(changed.init_variables, jax.random.key(0))["params"]
    params = {name: drawn.get(name, variables["params"].get(name)) for name in shapes}
    return changed, {**variables, "params": params}
