"""What LiFT learns from: features of a shrunken image, doubled, against those of the image itself.

Source: Suri et al. 2024, LiFT (2403.14625), and its published code, in which images are shrunk by
taking every 2nd and every 4th pixel.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.patches import check_images

# How far apart two maps are: kind → (found, wanted) (…, C) float32 → (), a mean.
DISTANCES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "cosine": lambda found, wanted: (1 - _cosine(found, wanted)).mean(),
    "l1": lambda found, wanted: jnp.abs(found - wanted).mean(),
    "l2": lambda found, wanted: jnp.square(found - wanted).mean(),
}
# pick: every n-th pixel, as published, which aliases and shifts. resize: averaged over a triangle.
SHRINKS: tuple[str, ...] = ("pick", "resize")


def lift_loss(
    model: nn.Module,
    variables: Any,
    images: jax.Array,
    features: Sequence[jax.Array],
    kind: str = "cosine",
    shrink: str = "pick",
    train: bool = True,
) -> jax.Array:
    """LiFT's training loss, (): see `lift_loss_and_stats`, which gives the new statistics too."""
    return lift_loss_and_stats(model, variables, images, features, kind, shrink, train)[0]


def lift_loss_and_stats(
    model: nn.Module,
    variables: Any,
    images: jax.Array,
    features: Sequence[jax.Array],
    kind: str = "cosine",
    shrink: str = "pick",
    train: bool = True,
) -> tuple[jax.Array, dict[str, Any]]:
    """The loss, (), and {"batch_stats": …} after it: moved twice, by the half and the quarter.

    images: (B, H, W, 3), normalised. features: the backbone's of the images, of their half and of
    their quarter as `shrink_images` makes them; no gradient flows into them.
    kind: cosine | l1 | l2, a mean over all tokens, of both doublings with equal weight.
    train=False takes the running statistics, as a network in use does, and moves none.
    ValueError for unknown names, and for grids that are not each twice the next.
    """
    _check_name("kind", kind, DISTANCES)
    images = jnp.asarray(images)
    features = [jax.lax.stop_gradient(jnp.asarray(one)) for one in features]
    _check_pyramid(features)
    stats = {name: value for name, value in variables.items() if name == "batch_stats"}
    loss = jnp.float32(0)
    for level, factor in enumerate((2, 4)):
        shrunk = shrink_images(images, factor, shrink)
        given, wanted = features[level + 1], features[level]
        current = {**variables, **stats}
        if train:
            found, stats = model.apply(current, shrunk, given, True, mutable=["batch_stats"])
        else:
            found = model.apply(current, shrunk, given)
        loss += DISTANCES[kind](found.astype(jnp.float32), wanted.astype(jnp.float32))
    return loss, stats


def shrink_images(images: jax.Array, factor: int, shrink: str = "pick") -> jax.Array:
    """Images (B, H, W, 3) → (B, ⌈H/factor⌉, ⌈W/factor⌉, 3).

    shrink: "pick" takes every factor-th pixel from the first on; "resize" is bilinear with
    antialiasing, as Pillow does it. ValueError for another.
    """
    _check_name("shrink", shrink, SHRINKS)
    check_images(images)
    picked = images[:, ::factor, ::factor]
    if shrink == "pick":
        return picked
    return jax.image.resize(images, picked.shape, "linear", antialias=True)


def _cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Cosine similarity along the last axis, finite for zeros, with PyTorch's epsilon."""
    norms = (jnp.square(a).sum(-1) + 1e-12) * (jnp.square(b).sum(-1) + 1e-12)
    return (a * b).sum(-1) * jax.lax.rsqrt(norms)


def _check_name(argument: str, name: str, allowed: Any) -> None:
    if name not in allowed:
        raise ValueError(f"{argument}: {name!r} is none of {', '.join(allowed)}")


def _check_pyramid(features: Sequence[jax.Array]) -> None:
    """ValueError unless there are three maps (B, h, w, C), each twice as large as the next."""
    shapes = [tuple(one.shape) for one in features]
    if len(shapes) != 3 or any(len(shape) != 4 for shape in shapes):
        raise ValueError(
            "features: expected (full, half, quarter), each (B, h, w, C); "
            f"got shapes {', '.join(map(str, shapes))}"
        )
    for (_, h, w, _), (_, half_h, half_w, _) in zip(shapes, shapes[1:], strict=False):
        if (h, w) != (2 * half_h, 2 * half_w):
            raise ValueError(
                "features: expected grids that are each twice the next, got "
                + ", ".join(f"{shape[1]}×{shape[2]}" for shape in shapes)
                + "; sides of the images that are multiples of 4 patches have such"
            )
