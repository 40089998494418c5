"""`attribute`: one call for every method, and the table of methods."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.array_checks import checked_target
from vit_jax_xfer.arguments.declared_types import check_choice
from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.compiler import Jitted
from vit_jax_xfer.explain.methods import (
    attention_methods,
    baselines,
    class_activation,
    input_gradients,
    legrad,
    relevance_methods,
)
from vit_jax_xfer.explain.methods.patch_sums import sum_cells
from vit_jax_xfer.explain.methods.watched_network import WatchedNetwork, open_network


@flax.struct.dataclass
class Attribution:
    """What a method says of each image, raw: neither scaled nor cut at zero.

    signed: whether values below zero mean something, that they speak against the class.
    """

    map: jax.Array  # (B, h, w) float32, on the network's patches or its features' places
    tokens: jax.Array | None  # (B, T), prefix tokens first
    pixels: jax.Array | None  # (B, H, W)
    joint: jax.Array | None  # (B, T, T): how much of each token (column) is in each (row)
    target: jax.Array | None  # (B,) int32, the classes that are explained; None without a head
    signed: bool = flax.struct.field(pytree_node=False, default=False)


@dataclasses.dataclass(frozen=True)
class Method:
    """function (network, images, target, **options) → parts of an Attribution.

    of_class: whether it explains a class, which needs a head. signed: as Attribution's.
    of_any: whether it takes any flax module, not only this project's networks.
    """

    function: Callable[..., dict[str, Any]]
    of_class: bool = True
    signed: bool = False
    of_any: bool = False

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """Its options by name, with their types and defaults."""
        given = inspect.signature(self.function).parameters
        return {name: one for name, one in given.items() if one.kind is one.KEYWORD_ONLY}


def _of_any(function: Callable[..., dict[str, Any]], **fields: bool) -> Method:
    return Method(function, of_any=True, **fields)


TABLE: dict[str, Method] = {
    "attention_gradcam": Method(attention_methods.attention_gradcam),
    "attn_lrp": Method(relevance_methods.attn_lrp, signed=True),
    "cp_lrp": Method(relevance_methods.cp_lrp, signed=True),
    "edges": _of_any(baselines.edges, of_class=False),
    "generic_attention": Method(attention_methods.generic_attention),
    "gradcam": _of_any(class_activation.gradcam, signed=True),
    "gradcam_plus_plus": _of_any(class_activation.gradcam_plus_plus, signed=True),
    "gradient_rollout": Method(attention_methods.gradient_rollout),
    "hirescam": _of_any(class_activation.hirescam, signed=True),
    "input_x_gradient": _of_any(input_gradients.input_x_gradient, signed=True),
    "integrated_gradients": _of_any(input_gradients.integrated_gradients, signed=True),
    "layercam": _of_any(class_activation.layercam, signed=True),
    "legrad": Method(legrad.legrad),
    "partial_lrp": Method(relevance_methods.partial_lrp),
    "random": _of_any(baselines.random, of_class=False),
    "raw_attention": Method(attention_methods.raw_attention, of_class=False),
    "rollout": Method(attention_methods.rollout, of_class=False),
    "smoothgrad": _of_any(input_gradients.smoothgrad),
    "transformer_attribution": Method(relevance_methods.transformer_attribution),
    "xgradcam": _of_any(class_activation.xgradcam, signed=True),
}
METHODS: tuple[str, ...] = tuple(sorted(TABLE))


def passes_of(method: str, options: Mapping[str, Any]) -> int:
    """How many forward passes a method's map costs about, a gradient counted as two more.

    0 of one that there isn't, which `attribute` refuses, as it does wrong options.
    """
    chosen = TABLE.get(method)
    if chosen is None or method in ("random", "edges"):
        return 0
    told = {name: one.default for name, one in chosen.options.items()} | dict(options)
    # Several gradients on the way to an image, or around it.
    repeated = next((told[name] for name in ("steps", "samples") if name in told), 1)
    if not chosen.of_class or not isinstance(repeated, int):
        return 1
    return 3 * repeated


def attribute(
    model: nn.Module,
    variables: Any,
    images: ArrayLike,
    method: str,
    target: int | ArrayLike | None = None,
    **options: Any,
) -> Attribution:
    """What in images (B, H, W, 3) float32, prepared for the network, its answer rests on.

    method: one of METHODS; docs/explain.md defines each and lists its options.
    target: the class to explain, (B,) or one for all; None = the one that is predicted.
    Compiled once for each network, method, option and shape. Everything is computed in float32 at
    least, with exact products, whatever the network's type. A MaskedAutoencoder stands for its
    encoder; the methods of gradients also take any flax module (images → logits).
    ValueError, in one line, for a method that isn't defined for the network, and for options that
    the method hasn't.
    """
    chosen = _find(method)
    images = given_array("images", images)
    if images.ndim != 4 or not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(
            "images: expected (B, H, W, channels) float32, prepared for the network "
            f"(vjx.preprocess); got {images.dtype} {tuple(images.shape)}"
        )
    network = open_network(model, variables)
    static = _checked_options(method, chosen, options)
    if target is not None:
        target = checked_target(target, _number_of_classes(network, images), len(images))
    call = (network.model, method, static, network.variables, images, target)
    with jax.default_matmul_precision("highest"):
        traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(call[3:]))
        return _explain(*call) if traced else _compiled()(*call)


def _explain(
    model: nn.Module,
    method: str,
    options: tuple[tuple[str, Any], ...],
    variables: Any,
    images: jax.Array,
    target: jax.Array | None,
) -> Attribution:
    network, chosen = WatchedNetwork(model, variables), TABLE[method]
    if chosen.of_class and not _has_head(model):
        raise ValueError(
            f"{method}: explains a class, and this network has no head (num_classes=0); use "
            "rollout or raw_attention, or give it a head"
        )
    if not (chosen.of_any or network.is_transformer or network.is_filter):
        raise ValueError(
            f"{method}: looks into this project's networks, not into a {type(model).__name__}; "
            "use gradcam or a method of pixels"
        )
    images = images.astype(jnp.promote_types(images.dtype, jnp.float32))
    parts = chosen.function(network, images, target, **dict(options))
    tokens, pixels = parts.get("tokens"), parts.get("pixels")
    if "map" in parts:
        found = parts["map"]
    elif tokens is not None:
        patches = tokens[:, model.prefix_tokens :]
        found = patches.reshape(len(images), *model.grid_in(images.shape))
    else:
        found = sum_cells(network, images, pixels)
    joint = parts.get("joint")
    return Attribution(found, tokens, pixels, joint, parts["target"], chosen.signed)


@functools.cache
def _compiled() -> Jitted:
    return Jitted(_explain, static_argnums=(0, 1, 2))


def _has_head(model: nn.Module) -> bool:
    return getattr(model, "num_classes", 1) > 0


def _number_of_classes(network: WatchedNetwork, images: jax.Array) -> int:
    """How many classes a network tells apart, 0 without a head."""
    known = getattr(network.model, "num_classes", None)
    if known is None:  # a module of another project
        known = jax.eval_shape(network.logits, images).shape[-1]
    return known


def _find(method: str) -> Method:
    check_choice("method", method, METHODS)
    return TABLE[method]


def _checked_options(
    name: str, method: Method, options: Mapping[str, Any]
) -> tuple[tuple[str, Any], ...]:
    """Options of the method, in an order of their own."""
    known = method.options
    for option, value in options.items():
        if option not in known:
            has = f"has {', '.join(known)}" if known else "has no options"
            raise ValueError(f"{option}: {name} {has}")
        kind = known[option].annotation
        kinds = kind | int if isinstance(1.0, kind) else kind
        if isinstance(value, bool) or not isinstance(value, kinds):
            expected = getattr(kind, "__name__", kind)
            raise ValueError(f"{option}: {name} takes {expected}, got {value!r}")
    return tuple(sorted(options.items()))
