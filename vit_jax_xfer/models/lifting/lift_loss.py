"""What LiFT learns from: features of a shrunken image, doubled, against those of the image itself.

Source: Suri et al. 2024, LiFT (2403.14625), and its published code, in which images are shrunk by
taking every 2nd and every 4th pixel.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import check_variables, given_array
from vit_jax_xfer.arguments.listed_values import listed
from vit_jax_xfer.arguments.whole_numbers import check_whole
from vit_jax_xfer.models.lifting.lift_inputs import check_doubles
from vit_jax_xfer.models.transformer.patches import check_images

# How far apart two maps are: kind → (found, wanted) (…, C) float32 → (), a mean.
DISTANCES: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "cosine": lambda found, wanted: (1 - cosine_similarity(found, wanted)).mean(),
    "l1": lambda found, wanted: jnp.abs(found - wanted).mean(),
    "l2": lambda found, wanted: jnp.square(found - wanted).mean(),
}
# pick: every n-th pixel, as published, which aliases and shifts. resize: averaged over a triangle.
SHRINKS: tuple[str, ...] = ("pick", "resize")


def lift_loss(
    model: nn.Module,
    variables: Any,
    images: ArrayLike,
    features: Sequence[ArrayLike],
    kind: str = "cosine",
    shrink: str = "pick",
    train: bool = True,
    depths: int = 1,
) -> jax.Array:
    """LiFT's training loss, (): see `lift_loss_and_stats`, which gives the new statistics too."""
    return lift_loss_and_stats(model, variables, images, features, kind, shrink, train, depths)[0]


def lift_loss_and_stats(
    model: nn.Module,
    variables: Any,
    images: ArrayLike,
    features: Sequence[ArrayLike],
    kind: str = "cosine",
    shrink: str = "pick",
    train: bool = True,
    depths: int = 1,
) -> tuple[jax.Array, dict[str, Any]]:
    """The loss, (), and {"batch_stats": …} after it, which each doubling moves in turn.

    images: (B, H, W, 3), normalised. features: the backbone's of the images, of their half and of
    their quarter as `shrink_images` makes them; no gradient flows into them.
    kind: cosine | l1 | l2, a mean over all tokens, of all doublings with equal weight.
    depths: 1 = the half's and the quarter's features doubled, as published. 2 = then the quarter's
        once more, with the half for an image, against the full ones: several depths in one loss, as
        UPLiFT (2601.17950) learns from. Gradients flow through both doublings.
    train=False takes the running statistics, as a network in use does, and moves none.
    ValueError for unknown names, other depths, a network of another kind, and grids that are not
    each twice the next.
    """
    check_doubles(model)
    check_variables("variables", variables)
    _check_name("kind", kind, DISTANCES)
    if depths not in (1, 2):
        raise ValueError(f"depths: got {depths!r}, expected 1 or 2, for there are three sizes")
    images = given_array("images", images)
    full, half, quarter = map(jax.lax.stop_gradient, _pyramid(features))
    stats = {name: value for name, value in variables.items() if name == "batch_stats"}

    def doubled(given: jax.Array, seen: jax.Array) -> jax.Array:
        nonlocal stats
        current = {**variables, **stats}
        if not train:
            return model.apply(current, seen, given)
        found, stats = model.apply(current, seen, given, True, mutable=["batch_stats"])
        return found

    seen_half, seen_quarter = (shrink_images(images, factor, shrink) for factor in (2, 4))
    pairs = [(doubled(half, seen_half), full), (doubled(quarter, seen_quarter), half)]
    if depths == 2:
        pairs.append((doubled(pairs[1][0], seen_half), full))
    loss = jnp.float32(0)
    for found, wanted in pairs:
        loss += DISTANCES[kind](found.astype(jnp.float32), wanted.astype(jnp.float32))
    return loss, stats


def shrink_images(images: ArrayLike, factor: int, shrink: str = "pick") -> jax.Array:
    """Images (B, H, W, 3) → (B, ⌈H/factor⌉, ⌈W/factor⌉, 3).

    shrink: "pick" takes every factor-th pixel from the first on; "resize" is bilinear with
    antialiasing, as Pillow does it. ValueError for another.
    """
    _check_name("shrink", shrink, SHRINKS)
    check_whole("factor", factor)
    images = given_array("images", images)
    check_images(images)
    picked = images[:, ::factor, ::factor]
    if shrink == "pick":
        return picked
    return jax.image.resize(images, picked.shape, "linear", antialias=True)


def cosine_similarity(a: jax.Array, b: jax.Array) -> jax.Array:
    """Along the last axis, (…, C) → (…): finite for zeros, with PyTorch's epsilon."""
    norms = (jnp.square(a).sum(-1) + 1e-12) * (jnp.square(b).sum(-1) + 1e-12)
    return (a * b).sum(-1) * jax.lax.rsqrt(norms)


def _check_name(argument: str, name: str, allowed: Any) -> None:
    if name not in tuple(allowed):  # a list has no hash
        raise ValueError(f"{argument}: {name!r} is none of {', '.join(allowed)}")


def _pyramid(features: Sequence[ArrayLike]) -> Sequence[jax.Array]:
    """As arrays. ValueError unless they are three maps (B, h, w, C), each twice the next."""
    features = [given_array("features", one) for one in listed("features", features)]
    shapes = [one.shape for one in features]
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
    return features
