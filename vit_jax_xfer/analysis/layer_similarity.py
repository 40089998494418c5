"""CKA between all layers of one network and all of another, over images that come in batches.

Raghu et al. 2108.08810 (layers of vision transformers by minibatch CKA).
"""

import functools
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.array_checks import require_equal, require_features
from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.evaluate.similarity import cka
from vit_jax_xfer.models.collections import stack_layers
from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.protocol import Network

Tokens = Literal["all", "class", "mean"]
TOKENS: tuple[str, ...] = get_args(Tokens)


def minibatch_cka(x: ArrayLike, y: ArrayLike, batch_size: int) -> float:
    """Unbiased linear CKA of x (n, p) and y (n, q) by batches of consecutive rows.

    The three terms are averaged over batches before they are divided (2010.15327); a short last
    batch is left out. ValueError unless 4 ≤ batch_size ≤ n.
    """
    x, y = given_array("x", x), given_array("y", y)
    require_equal("y", y.shape[:1], x.shape[:1], "x's n")
    check_whole("batch_size", batch_size, 4)
    if batch_size > len(x):
        raise ValueError(f"batch_size: got {batch_size}, expected from 4 to the {len(x)} rows")
    starts = range(0, len(x) - batch_size + 1, batch_size)
    batches = ((x[i : i + batch_size], y[i : i + batch_size]) for i in starts)
    return float(cka.minibatch_cka(batches))


class LayerTerms(NamedTuple):
    """Terms of HSIC over layers: of both networks (L, L'), of each with itself (L,) and (L',)."""

    cross: np.ndarray
    first: np.ndarray
    second: np.ndarray


def layer_terms(
    first: Sequence[ArrayLike] | ArrayLike,
    second: Sequence[ArrayLike] | ArrayLike,
    unbiased: bool = True,
) -> LayerTerms:
    """HSIC with linear kernels of two networks' layers (n, features) on the same n images.

    The layers of one may differ in their features. ValueError for fewer than 4 rows (biased: 2).
    """
    layers = [jnp.asarray(x).reshape(len(x), -1) for x in (*first, *second)]
    least = 4 if unbiased else 2
    for x in layers:
        require_features("layers", x, "(n, features)")
        require_equal("layers", len(x), len(layers[0]), "the first's n")
    if len(layers[0]) < least:
        raise ValueError(f"layers: expected at least {least} images, got {len(layers[0])}")
    own, other = layers[: len(first)], layers[len(first) :]
    kernels = [jnp.stack([_kernel(x, unbiased) for x in side]) for side in (own, other)]
    return LayerTerms(*(np.asarray(x, np.float64) for x in _terms(*kernels, unbiased)))


def layer_cka(terms: Iterable[LayerTerms]) -> np.ndarray:
    """CKA (L, L') float64 of batches' terms, which are averaged before they are divided.

    0 where a layer doesn't vary. ValueError for no batch.
    """
    batches = list(terms)
    if not batches:
        raise ValueError("terms: got none, expected at least one batch's")
    cross, first, second = (np.mean(x, axis=0) for x in zip(*batches, strict=True))
    norm = np.sqrt(np.maximum(first, 0))[:, None] * np.sqrt(np.maximum(second, 0))
    return np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)


def layer_features(
    model: Network, variables: Any, images: ArrayLike, tokens: Tokens = "all"
) -> list[jax.Array]:
    """What each block leaves in the residual stream, (B, features) float32, first block first.

    tokens: all of them, flattened; class, the class token's; mean, the mean of the patches.
    A filter network's are its stages' maps: all, or their mean over the map. ValueError where the
    network has no such token.
    """
    if tokens not in TOKENS:
        raise ValueError(f"tokens: {tokens!r} is none of {', '.join(TOKENS)}")
    model, variables = encoder_of(model, variables)
    images = given_array("images", images)
    if "residual" in model.collections:
        _, found = model.apply(variables, images, mutable=["residual"], method="forward")
        stream = stack_layers(found["residual"], ("stream",))
        prefix, has_class = model.prefix_tokens, model.class_token
        maps = [(x[:, :1] if has_class else None, x[:, prefix:], x) for x in stream]
    elif "filter" in model.collections:
        maps = [(None, x, x) for x in _stages(model, variables, images)]
    else:
        raise ValueError(f"model: a {type(model).__name__} has no blocks that CKA could compare")
    if tokens == "class" and maps[0][0] is None:
        raise ValueError("tokens: 'class' needs a class token, which this network lacks")
    return [_picked(*one, tokens) for one in maps]


def _picked(
    own: jax.Array | None, patches: jax.Array, every: jax.Array, tokens: Tokens
) -> jax.Array:
    chosen = {"class": own, "mean": patches, "all": every}[tokens]
    chosen = chosen.astype(jnp.float32)
    if tokens == "mean":
        return chosen.reshape(len(chosen), -1, chosen.shape[-1]).mean(1)
    return chosen.reshape(len(chosen), -1)


def _stages(model: Network, variables: Any, images: jax.Array) -> list[jax.Array]:
    """The maps (B, h, w, C) that the stages of a filter network give on."""
    names = [f"stage_{i}" for i in range(model.depth)]
    _, found = model.apply(
        variables,
        images,
        capture_intermediates=lambda module, method: module.name in names and method == "__call__",
        mutable=["intermediates"],
        method="forward",
    )
    return [found["intermediates"][name]["__call__"][0] for name in names]


@functools.partial(jax.jit, static_argnames="unbiased")
def _kernel(x: jax.Array, unbiased: bool) -> jax.Array:
    """Products of centred rows, (n, n); unbiased: without the diagonal."""
    x = cka.centred(x)
    kernel = jnp.matmul(x, x.T, precision="highest")
    return jnp.where(jnp.eye(len(x), dtype=bool), 0.0, kernel) if unbiased else kernel


@functools.partial(jax.jit, static_argnames="unbiased")
def _terms(first: jax.Array, second: jax.Array, unbiased: bool) -> tuple[jax.Array, ...]:
    """HSIC of kernels (L, n, n), (L', n, n): (L, L'), (L,), (L',)."""
    n = float(first.shape[1])

    def hsic(k: jax.Array, other: jax.Array, layout: str) -> jax.Array:
        rows = layout.replace("ij", "i")
        product = jnp.einsum(layout, k, other, precision="highest")
        if not unbiased:
            return product / (n - 1) ** 2
        ones = layout.replace("ij", "")
        totals = jnp.einsum(ones, k.sum((1, 2)), other.sum((1, 2)))
        across = jnp.einsum(rows, k.sum(1), other.sum(1), precision="highest")
        return cka.hsic_1(product, totals, across, n)

    return (
        hsic(first, second, "aij,bij->ab"),
        hsic(first, first, "aij,aij->a"),
        hsic(second, second, "aij,aij->a"),
    )
