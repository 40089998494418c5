"""What every figure of merit asks of its arrays; errors name the argument."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def require_shape(name: str, array: jax.Array, layout: str) -> None:
    """ValueError unless the array has the axes of `layout`, as in "(h, w, C)", none of them 0."""
    if array.ndim != layout.count(",") + 1 or not all(array.shape):
        raise ValueError(f"{name}: expected {layout}, none of them 0, got shape {array.shape}")


def require_equal(name: str, value: object, expected: object, of: str) -> None:
    """ValueError unless what `name` has equals what another argument (`of`, described) has."""
    if value != expected:
        raise ValueError(f"{name}: got {value}, {of} has {expected}; they must be equal")


def require_finite(name: str, array: jax.Array) -> None:
    """ValueError where a value is NaN or infinite; nothing is asked of traced arrays."""
    array = jnp.asarray(array)
    if isinstance(array, jax.core.Tracer) or not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    bad = array.size - int(_count_finite(array))
    if bad:
        raise ValueError(f"{name}: {bad} of {array.size} values are NaN or infinite; expected none")


def require_finite_images(
    what: str, rows: np.ndarray, name_of: Callable[[int], str], first: int = 0
) -> None:
    """ValueError naming the first image of which a value is NaN or infinite.

    rows: (N, …), what a network makes of N images. name_of: the name of an image by its place, of
    which the first row's is `first`.
    """
    rows = np.asarray(rows)
    bad = np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(1))
    if len(bad):
        raise ValueError(
            f"{name_of(first + int(bad[0]))}: {what}: some values are NaN or infinite; are the "
            "weights broken?"
        )


def require_features(name: str, array: jax.Array, layout: str) -> None:
    """ValueError unless the array is real floating point of this layout, and finite throughout."""
    require_shape(name, array, layout)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name}: expected floating point, got {array.dtype}")
    require_finite(name, array)


_ROW_SUM = 1.05  # the most that rounding, of bfloat16 too, makes of a sum of 1


def require_maps(name: str, maps: jax.Array) -> None:
    """ValueError unless rows of maps (…, S) are shares of attention; nothing is asked of traced.

    Of maps within windows rows may sum to less than 1.
    """
    if isinstance(maps, jax.core.Tracer):
        return
    least, most = (float(x) for x in _least_and_sum(maps))
    if least < 0 or most > _ROW_SUM:
        raise ValueError(
            f"{name}: values from {least:.3g} on and rows that sum to {most:.3g} are no shares of "
            "attention; pass maps after the softmax"
        )


@jax.jit
def _least_and_sum(maps: jax.Array) -> tuple[jax.Array, jax.Array]:
    return maps.min(), maps.sum(axis=-1, dtype=jnp.float32).max()


@jax.jit
def _count_finite(array: jax.Array) -> jax.Array:
    return jnp.isfinite(array).sum()


def checked_target(target: Any, classes: int, batch: int) -> Any:
    """Classes (B,) int32 of one class, or of one for each of `batch` images; None stays.

    classes: how many there are, 0 = not known. Nothing is asked of a traced target. ValueError,
    naming `target`, for other shapes, for numbers that are not whole, and for no such class.
    """
    if target is None or isinstance(target, jax.core.Tracer):
        return target
    target = np.asarray(target)
    if target.shape not in ((), (batch,)) or target.dtype.kind not in "iu":
        raise ValueError(
            f"target: expected a class, or one for each of {batch} images; got {target.dtype} "
            f"{tuple(target.shape)}"
        )
    if classes and target.size and (target.min() < 0 or target.max() >= classes):
        raise ValueError(f"target: this network's classes are 0 … {classes - 1}, got {target}")
    return jnp.asarray(np.broadcast_to(target.astype(np.int32), (batch,)))


def unit_vectors(array: jax.Array) -> jax.Array:
    """Vectors along the last axis over their lengths, in float32; a vector of zeros stays."""
    array = array.astype(jnp.float32)
    length = jnp.sqrt(jnp.square(array).sum(-1, keepdims=True))
    return array / jnp.maximum(length, 1e-12)
