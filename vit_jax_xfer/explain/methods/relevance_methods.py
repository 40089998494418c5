"""The methods that propagate relevance: AttnLRP, CP-LRP, transformer attribution, partial LRP.

Which rule stands where is propagate.py.
"""

from typing import Any

import flax.linen as nn
import jax

from vit_jax_xfer.explain.methods import attention_products as products
from vit_jax_xfer.explain.methods import propagate
from vit_jax_xfer.explain.methods.watched_network import (
    Interceptor,
    WatchedNetwork,
    block_maps,
    pool_map,
)

Parts = dict[str, Any]


def attn_lrp(network: WatchedNetwork, images: jax.Array, target: Any) -> Parts:
    """AttnLRP (2402.05602) from the class's logit to tokens and pixels."""
    return _to_input(network, images, target, propagate.slopes(constant_maps=False))


def cp_lrp(
    network: WatchedNetwork, images: jax.Array, target: Any, *, gamma: float | None = None
) -> Parts:
    """CP-LRP: AttnLRP with attention maps as constants (2202.07304, as 2402.05602 has it).

    gamma: of the generalised gamma rule at every linear layer but the patches', 0.05 is usual.
    """
    if gamma is not None and not gamma >= 0:
        raise ValueError(f"gamma: expected a number from 0 on, or None; got {gamma}")
    if gamma is not None and not network.is_transformer:
        raise ValueError("gamma: is for a vision transformer's linear layers; leave it at None")
    if gamma is not None and network.model.conv_blocks:
        raise ValueError("gamma: has no rule for convolutions (conv_blocks); leave it at None")
    rules = propagate.slopes(constant_maps=True, gamma=gamma)
    return _to_input(network, images, target, rules)


def transformer_attribution(
    network: WatchedNetwork,
    images: jax.Array,
    target: Any,
    *,
    start_layer: int = 0,
    rules: str = "scaled",
) -> Parts:
    """Product of I + mean over heads of relu(g · R), R a map's relevance (2012.09838).

    start_layer: first block of the product. rules: "scaled", the paper's; "simple", its code's
    older ones, in which sums are not scaled to keep the total.
    Ill-conditioned where the results of attention are near zero: 32 bits give maps to three digits
    as a rule, and two in bad cases.
    """
    _check(network, "transformer_attribution")
    if rules not in ("scaled", "simple"):
        raise ValueError(f"rules: {rules!r} is none of scaled, simple")
    first = network.layer("start_layer", start_layer)
    seen = network.watch(images, target)
    around = (propagate.relevance(apart=rules == "simple"),)
    found = network.watch(images, seen.target, interceptors=around)
    depth = network.model.depth
    both = (block_maps(tree, range(depth)) for tree in (found.gradients, seen.gradients))
    joint = products.accumulate(
        [products.positive_part(*pair) for pair in zip(*both, strict=True)], first
    )
    pooled = pool_map(found.gradients)
    if pooled is not None:
        pooled = products.positive_part(pooled, pool_map(seen.gradients))
    tokens = products.read_joint(network, images, joint, pooled)
    return {"tokens": tokens, "joint": joint, "target": seen.target}


def partial_lrp(network: WatchedNetwork, images: jax.Array, target: Any) -> Parts:
    """Positive relevance of the last attention map, mean over heads (1905.09418)."""
    _check(network, "partial_lrp")
    found = network.watch(images, target, interceptors=(propagate.relevance(apart=True),))
    last = products.last_map(network, found.gradients)
    row = products.mean_over_heads(jax.nn.relu(last)).sum(axis=1, keepdims=True)
    return {"tokens": products.pad_prefix(network, images, row)[:, 0], "target": found.target}


def _to_input(network: WatchedNetwork, images: jax.Array, target: Any, rules: Interceptor) -> Parts:
    """Slopes times values: of the embedded tokens, positions added, and of the pixels."""
    if network.is_filter and network.model.attend == "deformable":
        raise ValueError("attend: relevance has no rule for deformable attention; use gradcam")
    place = _embedding if network.is_transformer else None
    seen = network.watch(
        images, target, maps=False, place=place, inputs=True, interceptors=(rules,)
    )
    parts = {"pixels": (images * seen.inputs).sum(axis=-1), "target": seen.target}
    if network.is_transformer:
        parts["tokens"] = (seen.values["value"] * seen.gradients["value"]).sum(axis=-1)
    return parts


def _embedding(module: nn.Module, method: str) -> bool:
    return method == "embed"


def _check(network: WatchedNetwork, method: str) -> None:
    if not network.is_transformer:
        raise ValueError(
            f"{method}: has rules for vision transformers alone; use attn_lrp or generic_attention"
        )
    model = network.model
    for field, there in (
        ("conv_blocks", bool(model.conv_blocks)),
        ("relative_bias='decomposed'", model.relative_bias == "decomposed"),
    ):
        if there:
            raise ValueError(
                f"{method}: has no rule for {field}; use attn_lrp or generic_attention"
            )
