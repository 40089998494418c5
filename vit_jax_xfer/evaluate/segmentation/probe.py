"""A linear classifier of cells, trained on the pixels they cover, on frozen features.

As dense features are usually probed (FeatUp 2403.10516, LoftUp 2504.14032): logits, not features,
are interpolated to the labels' size.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vit_jax_xfer.models.cell_places import (
    CellAxis,
    CellPlaces,
    even_axis,
    places_or_even,
)

UNLABELLED = -1
BATCH = 16  # images a step
_EVERY = 4  # of the pixels of each side a step looks at
_SMALL = 32  # below which it looks at all


class Probe(NamedTuple):
    """kernel (C, K) and bias (K,) for features of which each channel has mean 0 and variance 1.
    mean, std: (C,), by which they come to that."""

    kernel: jax.Array
    bias: jax.Array
    mean: jax.Array
    std: jax.Array

    def logits(self, features: jax.Array) -> jax.Array:
        """(B, h, w, C) → (B, h, w, K)."""
        return ((features - self.mean) / self.std) @ self.kernel + self.bias


# Called with the places of images in the training set, gives their features (B, h, w, C) float32
# and labels (B, S, S) integer, UNLABELLED where there is none.
Examples = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def train_probe(
    examples: Examples,
    count: int,
    moments: tuple[np.ndarray, np.ndarray],
    classes: int,
    steps: int,
    learning_rate: float,
    seed: int = 0,
    places: CellPlaces | None = None,
    report: Callable[[int], None] | None = None,
) -> Probe:
    """Adam with a cosine to 0 on the cross-entropy of pixels, from zeros, 16 images a step.

    Images come in a new order each time all were seen. Of each side's pixels a step looks at every
    fourth from a drawn one on, so that all have their turn at a sixteenth of the cost; of labels
    below 32 × 32 at all. moments: mean and standard deviation (C,) of the features. places: where
    cells lie, of patches that overlap; None = they share the image evenly. report: called with the
    steps done.
    """
    mean, std = (jnp.asarray(x, jnp.float32) for x in moments)
    start = jnp.zeros((len(mean), classes)), jnp.zeros(classes)
    probe = Probe(*start, mean, jnp.where(std > 1e-6 * jnp.maximum(std.max(), 1e-30), std, 1.0))
    rng = np.random.default_rng(seed)
    state = _optimizer(learning_rate, steps).init(start)
    order = np.zeros(0, int)
    for step in range(1, steps + 1):
        while len(order) < min(BATCH, count):
            order = np.concatenate([order, rng.permutation(count)])
        chosen, order = order[:BATCH], order[BATCH:]
        features, labels = examples(chosen)
        rows, columns = (_drawn(rng, labels.shape[1]) for _ in range(2))
        size = labels.shape[1]
        axes = places_or_even(places, features.shape[1:3])
        probe, state = _step(
            probe,
            state,
            features,
            labels[:, rows[:, None], columns],
            interpolation(axes.rows, size)[rows],
            interpolation(axes.columns, size)[columns],
            learning_rate,
            steps,
        )
        # Steps that wait in a queue would hold their examples.
        jax.block_until_ready(probe)
        if report:
            report(step)
    return probe


@functools.partial(jax.jit, static_argnames=("size", "places"))
def predict(
    probe: Probe, features: jax.Array, size: int, places: CellPlaces | None = None
) -> jax.Array:
    """The likeliest class of each pixel: features (B, h, w, C) → (B, size, size) int32.

    One image's logits at a time are interpolated: size² · K numbers. places: as in `train_probe`.
    """
    axes = places_or_even(places, features.shape[1:3])
    down, across = (jnp.asarray(interpolation(axis, size)) for axis in axes)

    def of_image(image: jax.Array) -> jax.Array:
        return _interpolated(probe.logits(image[None]), down, across)[0].argmax(-1)

    return jax.lax.map(of_image, features).astype(jnp.int32)


@functools.cache
def interpolation(axis: CellAxis, pixels: int) -> np.ndarray:
    """How much each cell counts for each pixel (pixels, cells) float32: bilinear, half-pixel."""
    return axis.weights(even_axis(pixels))


def _drawn(rng: np.random.Generator, size: int) -> np.ndarray:
    every = _EVERY if size >= _SMALL else 1
    number = size // every
    return int(rng.integers(size - every * (number - 1))) + every * np.arange(number)


def _optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
    return optax.adam(optax.cosine_decay_schedule(learning_rate, steps))


def _interpolated(logits: jax.Array, down: jax.Array, across: jax.Array) -> jax.Array:
    return jnp.einsum("ph,qw,bhwk->bpqk", down, across, logits, optimize="optimal")


@functools.partial(jax.jit, static_argnames=("learning_rate", "steps"))
def _step(
    probe: Probe,
    state: Any,
    features: jax.Array,
    labels: jax.Array,
    down: jax.Array,
    across: jax.Array,
    learning_rate: float,
    steps: int,
) -> tuple[Probe, Any]:
    def loss(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = Probe(*weights, probe.mean, probe.std).logits(features)
        pixels = _interpolated(logits, down, across)
        known = labels != UNLABELLED
        each = optax.softmax_cross_entropy_with_integer_labels(pixels, jnp.where(known, labels, 0))
        return jnp.where(known, each, 0.0).sum() / jnp.maximum(known.sum(), 1)

    weights = probe.kernel, probe.bias
    update, state = _optimizer(learning_rate, steps).update(jax.grad(loss)(weights), state)
    return Probe(*optax.apply_updates(weights, update), probe.mean, probe.std), state
