"""LARS and LAMB's factor on each parameter's step: its own norm over that of its update."""

from typing import Any

import jax
import optax

PyTree = Any


def scale_by_trust_ratio(
    takes_part: PyTree, stacked: PyTree, coefficient: float
) -> optax.GradientTransformation:
    """optax's `scale_by_trust_ratio`, for some parameters and a layer at a time.

    takes_part, stacked: trees of bools like the parameters. The others' updates pass as they are; a
    stacked parameter (layers, …) has a ratio for each of its layers, as it has unstacked. Holes
    that freezing left stay. Sources: LARS (1708.03888), LAMB (1904.00962).
    """
    whole = optax.scale_by_trust_ratio(trust_coefficient=coefficient)

    def scaled(update: jax.Array, param: jax.Array) -> jax.Array:
        return whole.update(update, optax.EmptyState(), param)[0]

    def one(update: Any, param: Any, takes_part: bool, stacked: bool) -> Any:
        if is_hole(update) or not takes_part:
            return update
        return (jax.vmap(scaled) if stacked else scaled)(update, param)

    return optax.stateless(
        lambda updates, params: jax.tree.map(
            one, updates, params, takes_part, stacked, is_leaf=is_hole
        )
    )


def is_hole(leaf: Any) -> bool:
    """Whether freezing left nothing here."""
    return isinstance(leaf, optax.MaskedNode)
