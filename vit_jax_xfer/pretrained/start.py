"""One model's weights as the start of another: fine-tuning, probing, going on.

Everything but the last norm, the pooling and the head must come across whole; those start afresh
where the source lacks them or has them for another use.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.models.transformer.positions import fit_positions, sincos_2d
from vit_jax_xfer.models.transformer.relative_positions import resize_table
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks, unstack_blocks

FRESH = (
    "norm",
    "head_norm",
    "head",
    "representation",
    "distillation_classifier",
    "attention_pool",
    "mask_token",
)


def start_from(source: nn.Module, variables: dict[str, Any], model: nn.Module) -> dict[str, Any]:
    """The part of `variables` that `model` can start from: {"params": …}, a part of its own tree.

    Takes the encoder of a MaskedAutoencoder for a classifier, resizes positions to the model's
    grid, stacks or unstacks scanned blocks. ValueError names what does not come across.
    """
    if not isinstance(model, MaskedAutoencoder):
        source, variables = encoder_of(source, variables)
    elif not isinstance(source, MaskedAutoencoder):
        raise ValueError("masked pre-training goes on only from a model with its decoder")
    params = dict(variables["params"])
    if isinstance(model, VisionTransformer):
        params = {**_relative(source, params, model), **_positions(source, params, model)}
        if model.position == "sincos":
            params.pop("pos_embed", None)
    has = getattr(source, "encoder", source).scan
    wants = getattr(model, "encoder", model).scan
    if has != wants:
        params = stack_blocks(params) if wants else unstack_blocks(params)
    return {"params": _common(params, _shapes(model))}


def _shapes(model: nn.Module) -> dict[str, Any]:
    grid = getattr(model, "encoder", model).grid
    patch = getattr(model, "encoder", model).patch_size
    images = jax.ShapeDtypeStruct((1, grid[0] * patch, grid[1] * patch, 3), jnp.float32)
    extra = ()
    if isinstance(model, MaskedAutoencoder):
        extra = (jax.ShapeDtypeStruct((1, grid[0] * grid[1]), jnp.float32),)
    return jax.eval_shape(model.init, jax.random.key(0), images, *extra)["params"]


def _common(params: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """`params` cut to what `wanted` has, without a head of another shape."""
    taken: dict[str, Any] = {}
    for name, shapes in wanted.items():
        found = params.get(name)
        same = found is not None and _same(found, shapes)
        if same:
            taken[name] = found
        elif name not in FRESH:
            what = "is not there" if found is None else f"has shapes {_brief(found)}"
            raise ValueError(f"{name} {what}; the model wants {_brief(shapes)}")
    left = sorted(set(params) - set(wanted) - set(FRESH))
    if left:
        raise ValueError(f"the model has no place for {', '.join(left)}")
    return taken


def _same(found: Any, wanted: Any) -> bool:
    if jax.tree.structure(found) != jax.tree.structure(wanted):
        return False
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    return all(a.shape == b.shape for a, b in pairs)


def _brief(tree: Any) -> str:
    shapes = sorted({tuple(leaf.shape) for leaf in jax.tree.leaves(tree)})
    return ", ".join(map(str, shapes[:4])) + (", …" if len(shapes) > 4 else "")


def _positions(
    source: VisionTransformer, params: dict[str, Any], model: VisionTransformer
) -> dict[str, jax.Array]:
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


def _relative(
    source: VisionTransformer, params: dict[str, Any], model: VisionTransformer
) -> dict[str, Any]:
    """The parameters with their tables of relative positions on the model's grid."""
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
