"""Class activation maps: features weighed by the class's derivative by them, summed over channels.

Sources: Grad-CAM 1610.02391, HiResCAM 2011.08891, LayerCAM (Jiang et al. 2021), Grad-CAM++
1710.11063, XGrad-CAM 2008.02312. The maps are those before the ReLU.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.explain.methods.watched_network import Place, WatchedNetwork, leaves

Parts = dict[str, Any]
_SPACE = (1, 2)


def gradcam_map(features: jax.Array, gradients: jax.Array) -> jax.Array:
    """Σ over channels of (mean over space of g) · F: (B, h, w, C) twice → (B, h, w)."""
    return (gradients.mean(_SPACE, keepdims=True) * features).sum(axis=-1)


def hirescam_map(features: jax.Array, gradients: jax.Array) -> jax.Array:
    """Σ over channels of g · F."""
    return (gradients * features).sum(axis=-1)


def layercam_map(features: jax.Array, gradients: jax.Array) -> jax.Array:
    """Σ over channels of relu(g) · F."""
    return (jax.nn.relu(gradients) * features).sum(axis=-1)


def gradcam_plus_plus_map(features: jax.Array, gradients: jax.Array) -> jax.Array:
    """Grad-CAM with weights Σ over space of relu(g) · a, a = g² / (2 g² + g³ Σ F + 10⁻⁶)."""
    total = features.sum(_SPACE, keepdims=True)
    square = gradients**2
    share = square / (2 * square + total * square * gradients + 1e-6)
    share = jnp.where(gradients != 0, share, 0.0)
    weights = (jax.nn.relu(gradients) * share).sum(_SPACE, keepdims=True)
    return (weights * features).sum(axis=-1)


def xgradcam_map(features: jax.Array, gradients: jax.Array) -> jax.Array:
    """Grad-CAM with weights Σ over space of g · F / (Σ F + 10⁻⁷)."""
    total = features.sum(_SPACE, keepdims=True)
    weights = (gradients * features / (total + 1e-7)).sum(_SPACE, keepdims=True)
    return (weights * features).sum(axis=-1)


def gradcam(
    network: WatchedNetwork, images: jax.Array, target: Any, *, layer: int | str = -1
) -> Parts:
    """Grad-CAM. layer: a block, whose attention's input it takes, or a filter network's stage,

    whose output it takes; negative counts from the end. Or the path of any module, "a/b", whose
    output is (B, h, w, C), or a vision transformer's tokens.
    """
    return _map(network, images, target, layer, gradcam_map)


def hirescam(
    network: WatchedNetwork, images: jax.Array, target: Any, *, layer: int | str = -1
) -> Parts:
    """HiResCAM; layer as Grad-CAM's."""
    return _map(network, images, target, layer, hirescam_map)


def layercam(
    network: WatchedNetwork, images: jax.Array, target: Any, *, layer: int | str = -1
) -> Parts:
    """LayerCAM; layer as Grad-CAM's."""
    return _map(network, images, target, layer, layercam_map)


def gradcam_plus_plus(
    network: WatchedNetwork, images: jax.Array, target: Any, *, layer: int | str = -1
) -> Parts:
    """Grad-CAM++; layer as Grad-CAM's."""
    _check_sums(network, "gradcam_plus_plus")
    return _map(network, images, target, layer, gradcam_plus_plus_map)


def xgradcam(
    network: WatchedNetwork, images: jax.Array, target: Any, *, layer: int | str = -1
) -> Parts:
    """XGrad-CAM; layer as Grad-CAM's."""
    _check_sums(network, "xgradcam")
    return _map(network, images, target, layer, xgradcam_map)


def _check_sums(network: WatchedNetwork, method: str) -> None:
    if network.is_transformer:
        raise ValueError(
            f"{method}: divides by the channels' sums, which cross zero after a LayerNorm; on a "
            "vision transformer use gradcam, hirescam or layercam"
        )


def _map(
    network: WatchedNetwork,
    images: jax.Array,
    target: Any,
    layer: int | str,
    weigh: Callable[[jax.Array, jax.Array], jax.Array],
) -> Parts:
    place, index = _place(network, layer)
    seen = network.watch(images, target, maps=False, place=place)
    both = []
    for tree in (seen.values, seen.gradients):
        found = [value for _, value in leaves(tree)]
        if not found:
            raise ValueError(f"layer: {layer!r} is the path of no module that this network calls")
        both.append(_on_grid(network, images, found[0] if index is None else found[0][index]))
    return {"map": weigh(*both), "target": seen.target}


def _place(network: WatchedNetwork, layer: int | str) -> tuple[Place, int | None]:
    """Where features are taken, and which of scanned layers they are of."""
    model, index = network.model, None
    if isinstance(layer, str):
        path = tuple(layer.split("/"))
        if path[0] == "blocks":
            raise ValueError(f"layer: {layer!r} is in all scanned blocks; take a block's number")
    elif network.is_transformer:
        layer = network.layer("layer", layer)
        path = ("blocks" if model.scan else f"blocks_{layer}", "norm1")
        index = layer if model.scan else None
    elif network.is_filter:
        layer = network.layer("layer", layer)
        path = (f"stage_{layer}",)
    else:
        raise ValueError(
            f"layer: name a module of this {type(model).__name__} by its path, such as 'block/conv'"
        )

    def at(module: nn.Module, method: str) -> bool:
        return method == "__call__" and module.path == path

    return at, index


def _on_grid(network: WatchedNetwork, images: jax.Array, features: jax.Array) -> jax.Array:
    """Features (B, h, w, C), of tokens (B, T, C) those of the patches.

    ValueError for others, such as a vision transformer's by window or by head.
    """
    batch, shape = len(images), features.shape
    if not network.is_transformer:
        if len(shape) == 4 and shape[0] == batch:
            return features
    else:
        grid, number = network.model.grid_in(images.shape), network.model.num_tokens(images.shape)
        patches = grid[0] * grid[1]
        if len(shape) == 3 and shape[0] == batch and shape[1] in (number, patches):
            return features[:, -patches:].reshape(batch, *grid, -1)
        if len(shape) == 4 and shape[:3] == (batch, *grid):
            return features
    raise ValueError(f"layer: gives {shape}, expected features (B, h, w, C) of places in the image")
