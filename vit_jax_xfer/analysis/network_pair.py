"""Two networks on the same images: what each attends to and computes, and how far apart it is."""

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.analysis.attention_statistics import (
    attention_distance,
    attention_entropy,
    attention_mass,
)
from vit_jax_xfer.analysis.head_matching import image_divergence
from vit_jax_xfer.analysis.layer_similarity import LayerTerms, layer_cka, layer_terms
from vit_jax_xfer.arguments.array_checks import require_finite_images
from vit_jax_xfer.compiler import Jitted
from vit_jax_xfer.models.collections import give_attention, stack_layers
from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.transfer.matching import match_layers
from vit_jax_xfer.transfer.tokens import Places, common_tokens, layout_of

_LEAST = 4  # images of a batch, without which there is no unbiased CKA


class WatchedLayers(NamedTuple):
    """attention (L, B, H, T, T); mean, class_token: features (L, B, C) of the residual stream."""

    attention: jax.Array
    mean: jax.Array
    class_token: jax.Array | None


@dataclasses.dataclass(frozen=True, eq=False)
class AnalysedNetwork:
    """A vision transformer with what it is called; a masked autoencoder stands for its encoder.

    ValueError for another network, and for windows, where blocks have no maps of one size.
    """

    name: str
    model: Any
    variables: Any

    def __post_init__(self) -> None:
        model, variables = encoder_of(self.model, self.variables)
        if not isinstance(model, VisionTransformer):
            raise ValueError(
                f"{self.name}: a {type(model).__name__} has no attention maps that could be "
                "compared layer by layer; give vision transformers"
            )
        if model.windowed:
            raise ValueError(
                f"{self.name}: its block {model.windowed[0]} attends within windows, so that it "
                "has no map of all tokens to compare; give a network without windows"
            )
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "variables", variables)

    def watch(self, images: jax.Array, given: jax.Array | None = None) -> WatchedLayers:
        """What it shows on images (B, H, W, 3). given: maps (L, B, H, T, T) that it attends by."""
        return _watch()(self.model, self.variables, images, given)


@dataclasses.dataclass(frozen=True, eq=False)
class NetworkPair:
    """A first and a second network, and which of the second's layers stand beside the first's.

    layers: same | even | last | first, as `match_layers` of a transfer. copied: the second attends
    by the first's maps, as a student does that was trained by copying. Heads are compared on tokens
    that both have, rows made to sum to 1 again. ValueError, naming the field, where they don't fit.
    """

    first: AnalysedNetwork
    second: AnalysedNetwork
    layers: str = "same"
    copied: bool = False

    def beside(self) -> tuple[int, ...]:
        """The second's layer for each of the first's."""
        depths = self.first.model.depth, self.second.model.depth
        return match_layers(self.layers, *depths, range(depths[0]))

    def places(self, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[Places, Places]:
        """The tokens that both have on images of these shapes. ValueError for other grids."""
        sides = zip((self.first, self.second), shapes, strict=True)
        layouts = [layout_of(side.model, shape) for side, shape in sides]
        if layouts[0].grid != layouts[1].grid:
            (h, w), (height, width) = (layout.grid for layout in layouts)
            raise ValueError(
                f"size: {self.first.name} has {h}×{w} patches and {self.second.name} "
                f"{height}×{width}, so their maps can't be compared; choose sizes of one grid"
            )
        return common_tokens(*layouts)

    def check(self, shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
        """ValueError where anything of the two doesn't fit; nothing is computed."""
        self.beside()
        places = self.places(shapes)
        heads = self.first.model.num_heads, self.second.model.num_heads
        if heads[0] > heads[1]:
            raise ValueError(
                f"{self.first.name} has {heads[0]} heads and {self.second.name} {heads[1]}; give "
                "the one with fewer first, so that each of its heads finds one"
            )
        depths = self.first.model.depth, self.second.model.depth
        if self.copied and (heads[0] != heads[1] or depths[0] != depths[1] or any(places)):
            raise ValueError(
                "copied: a copy needs networks of the same depth, heads and tokens; these differ"
            )


@dataclasses.dataclass
class PairFindings:
    """What many images show of a pair; L layers and H heads of the first, L' and H' of the second.

    divergence (N, L, H, H') and of the class token's row alone, (N, L, H, H') or None, in nats.
    cka: {"mean" and perhaps "class": (L, L')}. distance, entropy and shares of attention: a pair of
    {what: (L, N, H)}, entropy over the logarithm of the tokens.
    """

    divergence: np.ndarray
    class_divergence: np.ndarray | None
    cka: dict[str, np.ndarray]
    statistics: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]
    beside: tuple[int, ...]
    images: int


def analyse(
    pair: NetworkPair,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    report: Callable[[int], None] = lambda done: None,
    name_of: Callable[[int], str] = "image {}".format,
) -> PairFindings:
    """Findings on batches of images prepared for the first and for the second network.

    Batches with fewer images than the first are left out of CKA, whose terms are averaged over
    batches. report: called with how many images are done. name_of: an image by its place, for
    errors. ValueError for fewer than 4 in the first, and for features that aren't finite.
    """
    divergence, of_class = [], []
    terms: dict[str, list[LayerTerms]] = {}
    statistics: tuple[list[dict[str, np.ndarray]], ...] = ([], [])
    done, size = 0, 0
    beside = pair.beside()
    for images in batches:
        size = size or len(images[0])
        if size < _LEAST:
            raise ValueError(f"images: {size} in a batch, CKA needs {_LEAST} or more")
        first, second = _watch_both(pair, images)
        for network, watched in ((pair.first, first), (pair.second, second)):
            means = np.swapaxes(watched.mean, 0, 1)
            require_finite_images(f"{network.name}: features", means, name_of, done)
        places = pair.places((images[0].shape, images[1].shape))
        theirs = second.attention[jnp.asarray(beside)]
        maps = [_among(x, own) for x, own in zip((first.attention, theirs), places, strict=True)]
        divergence.append(_by_layer(*maps))
        shared_class = pair.first.model.class_token and pair.second.model.class_token
        if shared_class:
            of_class.append(_by_layer(*(x[:, :, :, :1] for x in maps)))
        if len(images[0]) == size:
            for name, own, other in (
                ("mean", first.mean, second.mean),
                ("class", first.class_token, second.class_token),
            ):
                if own is not None and other is not None:
                    terms.setdefault(name, []).append(layer_terms(own, other))
        sides = (pair.first, first, images[0]), (pair.second, second, images[1])
        for found, (network, watched, seen) in zip(statistics, sides, strict=True):
            found.append(_statistics(network.model, watched.attention, seen.shape))
        done += len(images[0])
        report(done)
    return PairFindings(
        np.concatenate(divergence),
        np.concatenate(of_class) if of_class else None,
        {name: layer_cka(found) for name, found in terms.items()},
        tuple(
            {name: np.concatenate([one[name] for one in found], axis=1) for name in found[0]}
            for found in statistics
        ),
        beside,
        done,
    )


def _watch_both(
    pair: NetworkPair, images: tuple[np.ndarray, ...]
) -> tuple[WatchedLayers, WatchedLayers]:
    first = pair.first.watch(jnp.asarray(images[0]))
    given = first.attention if pair.copied else None
    return first, pair.second.watch(jnp.asarray(images[1]), given)


def _among(maps: jax.Array, places: Places) -> jax.Array:
    """Maps (L, B, H, T, T) among the tokens at `places`, rows summing to 1."""
    if places is None:
        return maps
    index = jnp.asarray(places)
    maps = maps[..., index, :][..., index]
    total = maps.sum(-1, keepdims=True)
    # A row that looked at the others alone looks nowhere in particular.
    return jnp.where(total > 0, maps / jnp.where(total > 0, total, 1.0), 1.0 / len(places))


def _by_layer(first: jax.Array, second: jax.Array) -> np.ndarray:
    """(B, L, H, H') of maps (L, B, H, T, T) layer by layer."""
    pairs = zip(first, second, strict=True)
    return np.stack([np.asarray(image_divergence(*pair)) for pair in pairs], axis=1)


def _statistics(
    model: VisionTransformer, attention: jax.Array, image_shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """{what: (L, B, H)} of one network's maps."""
    prefix = model.prefix_tokens
    found: dict[str, Any] = {
        "distance": attention_distance(attention, model.grid_in(image_shape), prefix),
        "entropy": attention_entropy(attention) / np.log(attention.shape[-1]),
    }
    if model.class_token:
        row = attention_entropy(attention[..., :1, :]) / np.log(attention.shape[-1])
        found["class_entropy"] = row
    mass = attention_mass(attention, prefix, model.class_token)
    found |= {name: value for name, value in mass._asdict().items() if value is not None}
    return {name: np.asarray(value) for name, value in found.items()}


@functools.cache
def _watch() -> Jitted:
    def watch(
        model: VisionTransformer, variables: Any, images: jax.Array, given: jax.Array | None
    ) -> WatchedLayers:
        if given is not None:
            handed = give_attention(
                {"map": given},
                range(model.depth),
                depth=model.depth,
                num_heads=model.num_heads,
                heads=None,
                scan=model.scan,
            )
            variables = {**variables, "given": handed}
        wanted = ["attention", "residual"]
        _, found = model.apply(variables, images, mutable=wanted, method="forward")
        stream = stack_layers(found["residual"], ("stream",)).astype(jnp.float32)
        return WatchedLayers(
            stack_layers(found["attention"], ("attention", "map")),
            stream[:, :, model.prefix_tokens :].mean(2),
            stream[:, :, 0] if model.class_token else None,
        )

    return Jitted(watch, static_argnums=(0,))
