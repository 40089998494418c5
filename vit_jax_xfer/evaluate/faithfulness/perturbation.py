"""What becomes of an answer when parts of the image go, in the order of a map.

Deletion and insertion: Petsiuk et al., RISE, 1806.07421. Positive and negative perturbation: Chefer
et al., 2012.09838. Area between the curves: Achtibat et al., 2402.05602. SaCo: Wu et al., "On the
Faithfulness of Vision Transformer Explanations", CVPR 2024.

A map of the image's size ranks pixels, a smaller one ranks as many cells, whole patches where it
lies on their grid. Equal values are ranked row by row, from the first cell on, in both orders.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from vit_jax_xfer.arguments.array_checks import checked_target, require_equal, require_finite
from vit_jax_xfer.arguments.given_arrays import given_array, host_array
from vit_jax_xfer.arguments.whole_numbers import check_each_whole, check_number, check_whole
from vit_jax_xfer.compiler import Jitted

Order = Literal["most", "least"]
FRACTIONS = tuple(i / 10 for i in range(1, 10))  # of the image, of positive and negative


class Perturbed(NamedTuple):
    """A curve of each image. auc: the area under it by the trapezoid rule, on an axis of 0 to 1."""

    probabilities: jax.Array  # (B, len(steps)) float32, of the target
    auc: jax.Array  # (B,) float32
    hits: jax.Array  # (B, len(steps)) bool: whether the target is what is predicted


def perturb(
    model: Any,
    variables: Any,
    images: ArrayLike,
    maps: ArrayLike,
    steps: Sequence[int],
    order: Order = "most",
    fill: ArrayLike = 0.0,
    baseline: ArrayLike | None = None,
    target: ArrayLike | None = None,
) -> Perturbed:
    """The target's probability after each of `steps` cells of an image changed, in a map's order.

    images: (B, H, W, 3) float32, prepared for the network. maps: (B, H, W), or (B, h, w) of cells
    that divide them. order: most, the largest first; least, the smallest. Deletion: cells become
    `fill`, a number or one a channel, in the model's input space. Insertion: from `baseline`
    (B, H, W, 3) on, as `blurred` makes one, cells become the image's. target: (B,) or one class,
    None = what is predicted of the whole image. The area gives steps the same width each, so let
    them be even. ValueError naming the argument, for fewer than two steps and numbers of cells that
    there aren't.
    """
    images = given_array("images", images)
    ranks = ranked(maps, images.shape, order)
    cells = ranks[0].size
    counts = np.asarray(steps)
    if counts.ndim != 1 or len(counts) < 2 or counts.dtype.kind not in "iu":
        raise ValueError(f"steps: expected two or more numbers of cells, got {steps}")
    if counts.min() < 0 or counts.max() > cells:
        raise ValueError(f"steps: got {counts.min()} to {counts.max()}, expected 0 to {cells}")
    windows = np.stack([np.zeros_like(counts), counts], axis=1)
    if baseline is not None:
        baseline = given_array("baseline", baseline)
        require_equal("baseline", baseline.shape, images.shape, "images")
        sides = baseline, images
    else:
        sides = images, filled(images, fill)
    chances, hits = _answers(model, variables, images, sides, ranks, windows, target)
    return Perturbed(*map(jnp.asarray, (chances, area(chances).astype(np.float32), hits)))


def abpc(
    model: Any,
    variables: Any,
    images: ArrayLike,
    maps: ArrayLike,
    steps: Sequence[int],
    fill: ArrayLike = 0.0,
    target: ArrayLike | None = None,
) -> jax.Array:
    """Area between the curves of the least and of the most relevant first, (B,) float32.

    Higher is better. Arguments as `perturb`'s. 0 is what a map that knows nothing has in the mean.
    """
    curves = [
        perturb(model, variables, images, maps, steps, order, fill, target=target).auc
        for order in ("least", "most")
    ]
    return curves[0] - curves[1]


def saco(
    model: Any,
    variables: Any,
    images: ArrayLike,
    maps: ArrayLike,
    groups: int = 10,
    fill: ArrayLike | None = None,
    target: ArrayLike | None = None,
) -> jax.Array:
    """Salience-guided faithfulness coefficient of each image, (B,) float32 from -1 to 1.

    Cells in their order fall into `groups` of one size (but for one cell); each alone becomes
    `fill`, None = the image's own mean of each channel. For every pair the difference of the two
    groups' sums of the map counts for or against, as the more salient one takes at least as much
    off the probability or less. 0 where all groups are equally salient. ValueError as `perturb`'s.
    """
    images = given_array("images", images)
    maps = host_array("maps", maps)
    ranks = ranked(maps, images.shape, "most")
    cells = ranks[0].size
    check_whole("groups", groups, 2)
    if groups > cells:
        raise ValueError(f"groups: got {groups}, expected from 2 to the {cells} cells of a map")
    edges = np.arange(groups + 1) * cells // groups
    # A window of no cell first: the whole image.
    windows = np.stack([np.append(0, edges[:-1]), np.append(0, edges[1:])], axis=1)
    put = filled(images, images.mean(axis=(1, 2), keepdims=True) if fill is None else fill)
    chances, _ = _answers(model, variables, images, (images, put), ranks, windows, target)
    group = np.searchsorted(edges, ranks.reshape(len(ranks), -1), side="right") - 1
    salience = np.stack(
        [
            np.bincount(one, np.asarray(values, np.float64).ravel(), groups)
            for one, values in zip(group, maps, strict=True)
        ]
    )
    effect = chances[:, :1].astype(np.float64) - chances[:, 1:]
    return jnp.asarray(coefficient(salience, effect), jnp.float32)


def coefficient(salience: ArrayLike, effect: ArrayLike) -> np.ndarray:
    """SaCo (B,) of what groups (B, K), the most salient first, hold and take off."""
    salience, effect = np.asarray(salience, np.float64), np.asarray(effect, np.float64)
    first, second = np.triu_indices(salience.shape[1], 1)
    weight = salience[:, first] - salience[:, second]
    agreed = np.where(effect[:, first] >= effect[:, second], weight, -weight).sum(1)
    total = np.abs(weight).sum(1)
    return np.divide(agreed, total, out=np.zeros_like(total), where=total > 0)


def area(curve: ArrayLike) -> np.ndarray:
    """Under curves (…, points) on an axis of 0 to 1, by the trapezoid rule: (…) float64."""
    curve = np.asarray(curve, np.float64)
    return (curve.sum(-1) - (curve[..., 0] + curve[..., -1]) / 2) / (curve.shape[-1] - 1)


def even_steps(cells: int, parts: int) -> np.ndarray:
    """Numbers of cells from none to all in so many steps, (parts + 1,) int64."""
    check_each_whole(1, cells=cells, parts=parts)
    return np.round(np.linspace(0, cells, parts + 1)).astype(np.int64)


def blurred(images: ArrayLike, kernel: int = 11, sigma: float = 5.0) -> jax.Array:
    """Images (B, H, W, C) under a Gaussian of `kernel` pixels, an odd number, zeros around them.

    As RISE's insertion begins. ValueError for an even kernel, and for no width of the Gaussian.
    """
    check_whole("kernel", kernel)
    if kernel % 2 == 0:
        raise ValueError(f"kernel: got {kernel}, expected an odd number of pixels")
    check_number("sigma", sigma)
    if not sigma > 0:
        raise ValueError(f"sigma: got {sigma}, expected more than 0 pixels")
    images = given_array("images", images)
    places = np.arange(kernel) - kernel // 2
    weights = np.exp(-(places**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (kernel // 2, kernel // 2)
        wide, size = jnp.pad(images, pad), images.shape[axis]
        parts = (jax.lax.slice_in_dim(wide, i, i + size, axis=axis) for i in range(kernel))
        images = sum(float(weight) * part for weight, part in zip(weights, parts, strict=True))
    return images


def filled(images: jax.Array, fill: ArrayLike) -> jax.Array:
    """`fill`, of a number, one a channel or whole images, in the images' shape (B, H, W, C)."""
    try:
        return jnp.broadcast_to(jnp.asarray(fill, images.dtype), images.shape)
    except ValueError:
        channels = images.shape[-1]
        raise ValueError(
            f"fill: expected a number or {channels} of them, got shape {np.shape(fill)}"
        ) from None


def ranked(maps: ArrayLike, image_shape: Sequence[int], order: Order) -> np.ndarray:
    """Each cell's place in the order, 0 first: maps (B, h, w) → (B, h, w) int32.

    ValueError naming `maps` where they don't fit the images (B, H, W, C) or aren't finite.
    """
    if order not in ("most", "least"):
        raise ValueError(f"order: {order!r} is neither most nor least")
    maps = host_array("maps", maps)
    batch, height, width = image_shape[:3]
    fits = maps.ndim == 3 and len(maps) == batch and maps.size
    if not fits or height % maps.shape[1] or width % maps.shape[2]:
        raise ValueError(
            f"maps: expected ({batch}, {height}, {width}), or cells that divide it; "
            f"got {maps.shape}"
        )
    require_finite("maps", jnp.asarray(maps))
    flat = maps.reshape(batch, -1).astype(np.float64)
    places = np.argsort(-flat if order == "most" else flat, axis=1, kind="stable")
    ranks = np.empty(places.shape, np.int32)
    np.put_along_axis(ranks, places, np.arange(flat.shape[1], dtype=np.int32)[None], axis=1)
    return ranks.reshape(maps.shape)


def _answers(
    model: Any,
    variables: Any,
    images: jax.Array,
    sides: tuple[jax.Array, jax.Array],
    ranks: np.ndarray,
    windows: np.ndarray,
    target: ArrayLike | None,
) -> tuple[np.ndarray, np.ndarray]:
    """(B, S) of `_program` for each window (S, 2) of ranks in which the second side is seen."""
    if not hasattr(model, "apply"):
        raise ValueError(f"model: got a {type(model).__name__}, expected a network")
    if not isinstance(variables, Mapping):
        raise ValueError(f"variables: got a {type(variables).__name__}, expected the network's")
    call = _program()
    target = checked_target(target, _number_of_classes(model, variables, images), len(images))
    if target is None:
        target = predicted(model, variables, images)
    chances, hits = call(model, variables, *sides, ranks, windows, target)
    return np.asarray(chances).T, np.asarray(hits).T


def _number_of_classes(model: Any, variables: Any, images: jax.Array) -> int:
    """How many logits (B, K) a network gives. ValueError for one whose results are no logits."""
    known = getattr(model, "num_classes", None)
    if known == 0 or getattr(model, "predicts", "classes") != "classes":
        raise ValueError(
            "model: a network without classes (num_classes=0) has no probability to follow; give "
            "it a head"
        )
    if known is not None:
        return known
    # A module of another project.
    logits = jax.eval_shape(model.apply, variables, images)
    if not isinstance(logits, jax.ShapeDtypeStruct) or logits.ndim != 2:
        raise ValueError("model: expected one that gives logits (B, K) of images")
    return logits.shape[1]


def predicted(model: Any, variables: Any, images: jax.Array) -> jax.Array:
    """The class of each image, (B,) int32."""
    return _classes()(model, variables, images)


@functools.cache
def _classes() -> Jitted:
    def classes(model: Any, variables: Any, images: jax.Array) -> jax.Array:
        return model.apply(variables, images).argmax(-1).astype(jnp.int32)

    return Jitted(classes, static_argnums=(0,))


@functools.cache
def _program() -> Jitted:
    """Compiled once for a network and shapes: one batch of images at a time, window by window."""

    def run(
        model: Any,
        variables: Any,
        first: jax.Array,
        second: jax.Array,
        ranks: jax.Array,
        windows: jax.Array,
        target: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        rows, columns = first.shape[1] // ranks.shape[1], first.shape[2] // ranks.shape[2]

        def seen(window: jax.Array) -> tuple[jax.Array, jax.Array]:
            inside = (ranks >= window[0]) & (ranks < window[1])
            pixels = inside.repeat(rows, axis=1).repeat(columns, axis=2)
            logits = model.apply(variables, jnp.where(pixels[..., None], second, first))
            chances = jax.nn.softmax(logits.astype(jnp.float32), axis=-1)
            own = jnp.take_along_axis(chances, target[:, None], axis=1)[:, 0]
            return own, logits.argmax(-1) == target

        return jax.lax.map(seen, windows)

    return Jitted(run, static_argnums=(0,))
