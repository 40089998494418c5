"""Tables of positions of one vision transformer, on the grid of another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.transformer.positions import fit_positions, sincos_2d
from vit_jax_xfer.models.transformer.relative_positions import resize_table

if TYPE_CHECKING:
    from vit_jax_xfer.models.vit import VisionTransformer

Params = dict[str, Any]


def fit_tables(params: Params, source: VisionTransformer, model: VisionTransformer) -> Params:
    """`source`'s parameters with `pos_embed` and tables of relative positions as `model` has them.

    ValueError, naming the field, where the two know positions in ways that don't go over.
    """
    fitted = {**_relative(params, source, model), **_absolute(params, source, model)}
    if model.position == "sincos":
        fitted.pop("pos_embed", None)
    return fitted


def _absolute(params: Params, source: VisionTransformer, model: VisionTransformer) -> Params:
    """The model's learned positions, from the source's learned or fixed ones."""
    if model.position == "sincos":
        if source.position != "sincos":
            raise ValueError("position: the source has learned positions, the model fixed ones")
        return {}
    if model.position == "none" or source.position == "none":
        return {}  # a difference is named with the other parameters
    if source.prefix_positions != model.prefix_positions:
        raise ValueError(
            f"class_token, class_position: the source has positions of {source.prefix_positions} "
            f"tokens before the patches, the model of {model.prefix_positions}"
        )
    rows = model.prefix_positions
    if source.position == "sincos":
        return {"pos_embed": jnp.asarray(sincos_2d(model.grid, model.width, rows))}
    fitted = fit_positions(
        params["pos_embed"], source.grid, model.grid, rows, source.position_resize
    )
    return {"pos_embed": fitted}


def _relative(params: Params, source: VisionTransformer, model: VisionTransformer) -> Params:
    if "none" in (source.relative_bias, model.relative_bias) or source.grid == model.grid:
        return params

    def fit(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        if path[-1].key != "relative_bias":
            return leaf
        fit_one = partial(
            resize_table,
            old_grid=source.grid,
            new_grid=model.grid,
            how=source.relative_resize,
        )
        return jax.vmap(fit_one)(leaf) if leaf.ndim == 3 else fit_one(leaf)

    return jax.tree_util.tree_map_with_path(fit, params)
