"""Explanations from the derivative of the class's logit by the image itself.

Sources: input × gradient 1605.01713, integrated gradients 1703.01365, SmoothGrad 1706.03825.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.explain.methods.watched_network import WatchedNetwork

Parts = dict[str, Any]


def input_x_gradient(network: WatchedNetwork, images: jax.Array, target: Any) -> Parts:
    """Image times derivative, summed over channels."""
    target, gradients = _gradients(network, images, target)
    return {"pixels": (images * gradients).sum(axis=-1), "target": target}


def integrated_gradients(
    network: WatchedNetwork,
    images: jax.Array,
    target: Any,
    *,
    steps: int = 50,
    baseline: float = 0.0,
) -> Parts:
    """(Image − baseline) times the mean derivative on the straight way between them.

    steps: points on it, in the middle of equal parts. baseline: a value of the network's input, 0
    is a preprocessing's mean colour. Pixels sum to the difference of the two logits, nearly.
    """
    if steps < 1:
        raise ValueError(f"steps: expected 1 or more, got {steps}")
    target = network.chosen(network.logits(images), target)
    difference = images - baseline

    def add(total: jax.Array, share: jax.Array) -> tuple[jax.Array, None]:
        return total + _gradients(network, baseline + share * difference, target)[1], None

    shares = (jnp.arange(steps, dtype=images.dtype) + 0.5) / steps
    total, _ = jax.lax.scan(add, jnp.zeros_like(images), shares)
    return {"pixels": (difference * total / steps).sum(axis=-1), "target": target}


def smoothgrad(
    network: WatchedNetwork,
    images: jax.Array,
    target: Any,
    *,
    samples: int = 25,
    noise: float = 0.15,
    seed: int = 0,
) -> Parts:
    """Magnitude, summed over channels, of the mean derivative at noisy copies of the image.

    samples: copies. noise: the Gaussian's standard deviation, as a share of the image's range from
    least to largest value. seed: of the noise.
    """
    if samples < 1:
        raise ValueError(f"samples: expected 1 or more, got {samples}")
    target = network.chosen(network.logits(images), target)
    extent = images.max((1, 2, 3), keepdims=True) - images.min((1, 2, 3), keepdims=True)

    def add(total: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        drawn = noise * extent * jax.random.normal(key, images.shape, images.dtype)
        return total + _gradients(network, images + drawn, target)[1], None

    keys = jax.random.split(jax.random.key(seed), samples)
    total, _ = jax.lax.scan(add, jnp.zeros_like(images), keys)
    return {"pixels": jnp.abs(total / samples).sum(axis=-1), "target": target}


def _gradients(
    network: WatchedNetwork, images: jax.Array, target: Any
) -> tuple[jax.Array, jax.Array]:
    """The explained classes (B,), and their logits' derivatives by the images (B, H, W, C)."""
    seen = network.watch(images, target, maps=False, inputs=True)
    return seen.target, seen.inputs
