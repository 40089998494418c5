"""A recognised file's arrays, put into its model's variables."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.transformer.patches import grid_of
from vit_jax_xfer.models.transformer.positions import fit_positions
from vit_jax_xfer.models.transformer.relative_positions import resize_table, table_rows
from vit_jax_xfer.pretrained.layout import stack_blocks, unstack_blocks
from vit_jax_xfer.pretrained.names import from_publisher
from vit_jax_xfer.pretrained.recognise import Recognised


def fill(found: Recognised) -> dict[str, Any]:
    """{"params": …, "batch_stats": …} as float32 numpy arrays, the latter where the model has them.

    An array is read when its parameter is made, and nothing is put on a device.
    ValueError unless the file fills the model whole.
    """
    shapes = variable_shapes(found.model)
    wanted = shapes.pop("params")
    params = jax.eval_shape(unstack_blocks, wanted)
    # Parameters' paths stand without "params/"; those of other collections begin with their name.
    flat = {path: leaf.shape for path, leaf in [*flatten(params), *flatten(shapes)]}
    filled = from_publisher(
        _fitted(found),
        flat,
        found.rules,
        found.ignored,
        # A copy: a later write to the caller's arrays must not reach the model.
        finish=lambda array: np.array(array, np.float32, order="C"),
        shown=found.shown,
    )
    tree = flax.traverse_util.unflatten_dict(filled, sep="/")
    others = {name: tree.pop(name) for name in shapes}
    return {"params": stack_blocks(tree, like=wanted), **others}


def param_shapes(model: nn.Module) -> dict[str, Any]:
    """The shapes of a model's parameters, without making them."""
    return variable_shapes(model)["params"]


def variable_shapes(model: nn.Module) -> dict[str, Any]:
    """The shapes of a model's parameters and batch statistics, by collection."""
    scanned = _scanned(model)  # blocks traced once instead of one after the other
    variables = jax.eval_shape(
        lambda *inputs: scanned.init(jax.random.key(0), *inputs), *_inputs(model)
    )
    found = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
    if scanned != model:
        found["params"] = jax.eval_shape(unstack_blocks, found["params"])
    return found


def _inputs(model: nn.Module) -> Sequence[jax.ShapeDtypeStruct]:
    """The shapes of inputs that initialise a model."""
    if hasattr(model, "example_inputs"):
        return model.example_inputs()
    encoder = getattr(model, "encoder", model)
    size = encoder.image_size
    height, width = (size, size) if isinstance(size, int) else size
    inputs = [jax.ShapeDtypeStruct((1, height, width, 3), jnp.float32)]
    if encoder is not model:  # an autoencoder also takes the noise that chooses masked patches
        h, w = encoder.grid
        inputs.append(jax.ShapeDtypeStruct((1, h * w), jnp.float32))
    return inputs


def _scanned(model: nn.Module) -> nn.Module:
    """The same model with its blocks scanned, where it has blocks that can be."""
    if hasattr(model, "encoder"):
        return model.clone(encoder=_scanned(model.encoder))
    return model.clone(scan=True) if hasattr(model, "scan") else model


def flatten(params: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(path, leaf) of every parameter, "blocks_0/norm1/scale"."""
    return list(flax.traverse_util.flatten_dict(params, sep="/").items())


def _fitted(found: Recognised) -> Mapping[str, np.ndarray]:
    """The file with its tables of positions on the model's grid."""
    encoder = getattr(found.model, "encoder", found.model)
    if found.stored_size is None:
        return found.state
    old = grid_of(found.stored_size, encoder.patch_size)
    if old == encoder.grid:
        return found.state
    fitted = {}
    prefix = encoder.prefix_positions
    for name in ("pos_embed", "pos_embedding", "decoder_pos_embed"):
        if name in found.state:
            table = found.state[name]
            table = table if table.ndim == 3 else table[None]
            if table.ndim != 3:
                continue  # its shape will be named
            rows = 1 if name == "decoder_pos_embed" else prefix
            fitted[name] = fit_positions(table, old, encoder.grid, rows, encoder.position_resize)
    if encoder.relative_bias != "none":
        for name in found.state:
            if name.endswith("relative_position_bias_table"):
                table = found.state[name]
                if len(table) != table_rows(old):
                    raise ValueError(
                        f"{found.shown(name)}: {len(table)} rows, the first table has "
                        f"{table_rows(old)}"
                    )
                fitted[name] = resize_table(table, old, encoder.grid, encoder.relative_resize)
    return found.state.replaced(fitted)
