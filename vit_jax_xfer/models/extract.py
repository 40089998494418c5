"""What a network computes on images: tokens, attention maps, queries, keys and values."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import check_variables, given_array
from vit_jax_xfer.models.collections import layer_values, resolve_layers, stack_layers
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.transformer.windows import from_windows, map_from_windows
from vit_jax_xfer.models.vit import VisionTransformer


@flax.struct.dataclass
class FilterTokens:
    """What one block of a filter network chose: kept (B, K) int32, ascending, row by row.

    importance: (B, h, w) float32, None where nothing was scored.
    """

    kept: jax.Array
    importance: jax.Array | None


@flax.struct.dataclass
class Extracted:
    """The results of `extract`; what was not asked for, or does not exist, is None."""

    logits: jax.Array | None  # (B, K)
    pooled: jax.Array | None  # (B, C): what the head sees
    tokens: jax.Array  # (B, T, C) after the final norm, prefix tokens first
    cls: jax.Array | None  # (B, C)
    patch_tokens: jax.Array  # (B, h, w, C)
    attention: jax.Array | None  # (L, B, H, T, T) float32, after the softmax
    q: jax.Array | None  # (L, B, T, H, d), before the scale
    k: jax.Array | None
    v: jax.Array | None
    filters: tuple[FilterTokens, ...] = ()  # a filter network's blocks in order, else none
    num_prefix_tokens: int = flax.struct.field(pytree_node=False, default=0)


def extract(
    model: Network,
    variables: Any,
    images: ArrayLike,
    attention: bool = False,
    qkv: bool = False,
    layers: Sequence[int] | None = None,
    kept: Sequence[ArrayLike] | None = None,
) -> Extracted:
    """Everything that one pass over images (B, H, W, 3) float32 shows; see `Extracted`.

    layers: which blocks' maps and q, k, v to return (negative counts from the end), None = all.
    kept: for a FilterViT or DropoutViT, token indices (B, K) of each filter block in order, to use
        instead of scoring or drawing them; a plain ViT has nothing to keep.
    A MaskedAutoencoder shows its encoder, on unmasked images. ValueError for a network without
    tokens, such as LiFT, and for arguments that do not fit the network.
    """
    model, variables = encoder_of(model, variables)
    if "filter" in model.collections:
        if attention or qkv or layers is not None:
            raise ValueError(
                "attention, qkv, layers: a FilterViT's blocks attend on maps of different sizes; "
                "its choices are in .filters"
            )
        return _extract_filters(model, variables, given_array("images", images), kept)
    if "attention" not in model.collections:
        raise ValueError(
            "model: extract looks into vision transformers and filter networks, not into a "
            f"{type(model).__name__}; a network that doubles features takes those besides images: "
            "vjx.dense.lift(model, variables, images, features)"
        )
    if kept is not None:
        raise ValueError(f"kept: {type(model).__name__} drops no tokens, so there is none to keep")
    images = given_array("images", images)
    layers = resolve_layers(layers, model.depth)
    wanted = [name for name, asked in (("attention", attention), ("qkv", qkv)) if asked]
    out, found = model.apply(variables, images, mutable=wanted, method="forward")
    prefix = model.prefix_tokens
    patches = out.tokens[:, prefix:]
    grid = model.grid_in(images.shape)
    maps = _stacked(model, found["attention"], "map", layers, grid) if attention else None
    q, k, v = (_stacked(model, found["qkv"], name, layers, grid) if qkv else None for name in "qkv")
    return Extracted(
        logits=out.logits,
        pooled=out.pooled,
        tokens=out.tokens,
        cls=out.tokens[:, 0] if model.class_token else None,
        patch_tokens=patches.reshape(patches.shape[0], *grid, patches.shape[-1]),
        attention=maps,
        q=q,
        k=k,
        v=v,
        num_prefix_tokens=prefix,
    )


def _stacked(
    model: VisionTransformer,
    collection: Mapping[str, Any],
    name: str,
    layers: Sequence[int],
    grid: tuple[int, int],
) -> jax.Array:
    """What attention emitted of each layer, of all tokens also where it stays within windows."""
    path = ("attention", name)
    if not any(map(model.window_of, layers)):
        return stack_layers(collection, path, layers)
    stacked = []
    for layer, value in zip(layers, layer_values(collection, path, layers), strict=True):
        size = model.window_of(layer)
        if size and name == "map":
            value = map_from_windows(value, grid, size)
        elif size:
            flat = from_windows(value.reshape(*value.shape[:2], -1), grid, size)
            value = flat.reshape(*flat.shape[:2], *value.shape[2:])
        stacked.append(value)
    return jnp.stack(stacked if name == "map" else _of_one_width(stacked, name))


def _of_one_width(values: list[jax.Array], name: str) -> list[jax.Array]:
    """Heads' tensors as wide as the widest, whose products stay the scores.

    Decomposed relative positions make queries and keys wider by the rows and columns that a block
    sees, which in windows are fewer (decomposed_positions.py).
    """
    wide = max(value.shape[-1] for value in values)
    found = []
    for value in values:
        narrow = value.shape[-1]
        if name == "q":  # products are divided by the root of the width
            value = value * (wide / narrow) ** 0.5
        found.append(jnp.pad(value, ((0, 0),) * 3 + ((0, wide - narrow),)))
    return found


def _extract_filters(
    model: FilterViT, variables: Any, images: jax.Array, kept: Sequence[jax.Array] | None
) -> Extracted:
    stages = [f"stage_{i}" for i in model.filter_stages]
    if kept is not None:
        if len(kept) != len(stages):
            raise ValueError(f"kept: got {len(kept)} arrays for {len(stages)} filter blocks")
        given = {
            name: {"kept": jnp.asarray(index)} for name, index in zip(stages, kept, strict=True)
        }
        variables = {**variables, "given": given}
    out, found = model.apply(variables, images, mutable=["filter"], method="forward")
    emitted = found.get("filter", {})
    batch, *_, width = out.features.shape
    return Extracted(
        logits=out.logits,
        pooled=out.pooled,
        tokens=out.features.reshape(batch, -1, width),
        cls=None,
        patch_tokens=out.features,
        attention=None,
        q=None,
        k=None,
        v=None,
        filters=tuple(
            FilterTokens(emitted[name]["kept"], emitted[name].get("importance"))
            for name in stages
            if name in emitted
        ),
    )


def encoder_of(
    model: Network, variables: Any, name: str = "model", its: str = "variables"
) -> tuple[Network, Any]:
    """The network inside that sees images, and its variables: often the model itself.

    ValueError, naming the argument (name, its), for what is no network, or no variables.
    """
    if not isinstance(model, Network):
        said = repr(model) if isinstance(model, str) else f"a {type(model).__name__}"
        raise ValueError(
            f"{name}: got {said}, expected a network, as create_model and load_pretrained give it"
        )
    check_variables(its, variables)
    return model.encoder, model.encoder_variables(variables)


def first_blocks(
    model: VisionTransformer, variables: Any, depth: int
) -> tuple[VisionTransformer, Any]:
    """The network of the first `depth` blocks, on the same weights.

    With drop path it is another network: chances and draws hang on the depth.
    """
    if model.scan and depth < model.depth:
        params = dict(variables["params"])
        params["blocks"] = jax.tree.map(lambda x: x[:depth], params["blocks"])
        variables = {**variables, "params": params}
    return model.shallow(depth), variables
