"""Tables of positions of one vision transformer, on the grid of another."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.transformer.decomposed_positions import fit_offsets
from vit_jax_xfer.models.transformer.positions import fit_positions, sincos_2d
from vit_jax_xfer.models.transformer.relative_positions import resize_table

if TYPE_CHECKING:
    from vit_jax_xfer.models.vit import VisionTransformer

Params = dict[str, Any]
_TOKENS = ("cls_token", "dist_token", "register_tokens")


def fit_tables(params: Params, source: VisionTransformer, model: VisionTransformer) -> Params:
    """`source`'s parameters with `pos_embed` and tables of relative positions as `model` has them.

    A model of patch tokens alone leaves the source's other tokens behind. ValueError, naming the
    field, where the two know positions in ways that don't go over.
    """
    fitted = {**_relative(params, source, model), **_absolute(params, source, model)}
    if model.position == "sincos":
        fitted.pop("pos_embed", None)
    for token in _TOKENS if model.window_size else ():
        fitted.pop(token, None)
    return fitted


def _absolute(params: Params, source: VisionTransformer, model: VisionTransformer) -> Params:
    """The model's learned positions, from the source's learned or fixed ones."""
    if model.position == "sincos":
        if source.position != "sincos":
            raise ValueError("position: the source has learned positions, the model fixed ones")
        return {}
    if model.position == "none" or source.position == "none":
        return {}  # a difference is named with the other parameters
    rows = source.prefix_positions
    if rows != model.prefix_positions and not model.window_size:
        raise ValueError(
            f"class_token, class_position: the source has positions of {source.prefix_positions} "
            f"tokens before the patches, the model of {model.prefix_positions}"
        )
    if source.position == "sincos":
        table = sincos_2d(model.position_grid, model.width, model.prefix_positions)
        return {"pos_embed": jnp.asarray(table)}
    fitted = fit_positions(
        params["pos_embed"],
        source.position_grid,
        model.position_grid,
        rows,
        source.position_resize,
    )
    return {"pos_embed": fitted[:, rows - model.prefix_positions :]}


def _relative(params: Params, source: VisionTransformer, model: VisionTransformer) -> Params:
    kinds = source.relative_bias, model.relative_bias
    if model.relative_bias == "decomposed" and source.relative_bias in ("none", "decomposed"):
        return _decomposed(params, model)
    if "none" in kinds or "decomposed" in kinds or source.grid == model.grid:
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


def _decomposed(params: Params, model: VisionTransformer) -> Params:
    """Parameters with the tables of the model's blocks: the source's, resized, or zeros."""
    params, size = dict(params), model.width // model.num_heads
    for i, design in enumerate(model.block_designs()):
        block = params.get(f"blocks_{i}")
        if block is None:
            break  # another depth is named with the other parameters
        attention = dict(block["attention"])
        native = (design.window,) * 2 if design.window else design.grid
        for name, n in zip(("relative_down", "relative_across"), native, strict=True):
            found = attention.get(name)
            attention[name] = (
                jnp.zeros((2 * n - 1, size)) if found is None else fit_offsets(found, n)
            )
        params[f"blocks_{i}"] = {**block, "attention": attention}
    return params
