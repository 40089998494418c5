"""The methods that read attention maps: raw attention, rollouts, generic attention.

attention_products.py has their matrices for a vision transformer, filter_flow.py for a FilterViT.
"""

from typing import Any

import jax

from vit_jax_xfer.explain.methods import attention_products as products
from vit_jax_xfer.explain.methods import filter_flow
from vit_jax_xfer.explain.methods.watched_network import (
    Watched,
    WatchedNetwork,
    block_maps,
    pool_map,
)

Parts = dict[str, Any]


def raw_attention(
    network: WatchedNetwork,
    images: jax.Array,
    target: jax.Array | None,
    *,
    layer: int = -1,
    head_fusion: str = "mean",
) -> Parts:
    """How the head's tokens look at all tokens in one block.

    layer: negative counts from the end; the last is attention pooling where there is one.
    head_fusion: mean, max or min over heads.
    """
    seen = network.watch(images, target, gradients=False)
    if network.is_filter:
        return filter_flow.raw(network, seen, images, layer, head_fusion)
    weights = products.fuse_heads(products.last_map(network, seen.values, layer), head_fusion)
    return {"tokens": products.read_rows(network, images, weights), "target": seen.target}


def rollout(
    network: WatchedNetwork,
    images: jax.Array,
    target: jax.Array | None,
    *,
    head_fusion: str = "mean",
    discard: float = 0.0,
    start_layer: int = 0,
) -> Parts:
    """The product of all maps, residual connections counted as half (2005.00928).

    head_fusion: mean (the paper), max or min. discard: share of each fused map's smallest entries
    that count as zero, the class token's look at itself excepted. start_layer: first block.
    """
    seen = network.watch(images, target, gradients=False)
    if network.is_filter:
        _only_whole(network, discard=discard, start_layer=start_layer)
        return filter_flow.rollout(network, seen, images, head_fusion)
    fused = products.fused_maps(network, seen.values, head_fusion)
    keep = network.model.class_token
    fused = [products.discard_smallest(one, discard, keep) if discard else one for one in fused]
    joint = products.roll_out(fused, network.layer("start_layer", start_layer))
    pooled = products.fused_pool(seen.values, head_fusion)
    return _from_joint(network, images, joint, pooled, seen)


def gradient_rollout(
    network: WatchedNetwork,
    images: jax.Array,
    target: jax.Array | None,
    *,
    discard: float = 0.0,
) -> Parts:
    """Rollout of relu(mean over heads of A · g) in place of A. discard: as rollout's, of all."""
    seen = network.watch(images, target)
    if network.is_filter:
        _only_whole(network, discard=discard)
        return filter_flow.gradient_rollout(network, seen, images)
    pairs = _pairs(network, seen)
    fused = [jax.nn.relu(products.mean_over_heads(one * slope)) for one, slope in pairs]
    if discard:
        fused = [products.discard_smallest(one, discard, keep_first=False) for one in fused]
    return _from_joint(network, images, products.roll_out(fused), _pool_part(seen), seen)


def generic_attention(
    network: WatchedNetwork, images: jax.Array, target: jax.Array | None
) -> Parts:
    """R ← R + mean over heads of relu(A · g) R, block by block, from R = I (2103.15679)."""
    seen = network.watch(images, target)
    if network.is_filter:
        return filter_flow.generic_attention(network, seen, images)
    joint = products.accumulate([products.positive_part(*pair) for pair in _pairs(network, seen)])
    return _from_joint(network, images, joint, _pool_part(seen), seen)


def attention_gradcam(
    network: WatchedNetwork, images: jax.Array, target: jax.Array | None
) -> Parts:
    """relu of the mean over heads of A · (mean of g over patches), in the last map (2103.15679)."""
    if network.is_filter:
        raise ValueError(
            "attention_gradcam: a FilterViT's last block is one of many maps; use gradcam, which "
            "takes its last features, or generic_attention"
        )
    seen = network.watch(images, target)
    weights, slopes = (products.last_map(network, x) for x in (seen.values, seen.gradients))
    # Under class pooling no row but the class token's has a derivative.
    slopes = slopes.sum(axis=2)
    importance = slopes[..., -products.number_of_patches(network, images) :].mean(axis=-1)
    weighted = products.mean_over_heads(importance[..., None, None] * weights)
    tokens = jax.nn.relu(products.read_rows(network, images, weighted))
    return {"tokens": tokens, "target": seen.target}


def _pairs(network: WatchedNetwork, seen: Watched) -> list[tuple[jax.Array, jax.Array]]:
    """(A, g) of each block, (B, H, T, T) both."""
    depth = network.model.depth
    both = (block_maps(tree, range(depth)) for tree in (seen.values, seen.gradients))
    return list(zip(*both, strict=True))


def _pool_part(seen: Watched) -> jax.Array | None:
    """relu(A · g), mean over heads, of attention pooling, (B, 1, T); None without."""
    pooled = pool_map(seen.values)
    return None if pooled is None else products.positive_part(pooled, pool_map(seen.gradients))


def _from_joint(
    network: WatchedNetwork,
    images: jax.Array,
    joint: jax.Array,
    pooled: jax.Array | None,
    seen: Watched,
) -> Parts:
    tokens = products.read_joint(network, images, joint, pooled)
    return {"tokens": tokens, "joint": joint, "target": seen.target}


def _only_whole(network: WatchedNetwork, **options: float) -> None:
    """ValueError for options that mean nothing where maps are of several sizes."""
    for name, value in options.items():
        if value:
            raise ValueError(
                f"{name}: a FilterViT's maps are of several sizes, so there is nothing to leave "
                "out of one matrix; leave it at 0"
            )
