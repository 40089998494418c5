"""Photographs explained by several methods: predictions, maps, and a FilterViT's own masks."""

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.explain.attention_views import AttentionViews
from vit_jax_xfer.explain.cells import Cells
from vit_jax_xfer.explain.kept_share import kept_area, kept_share
from vit_jax_xfer.explain.kept_tokens import KeptTokens, StageMask
from vit_jax_xfer.explain.methods.attribution import attribute, passes_of
from vit_jax_xfer.explain.network_view import map_cells
from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.suites.imagenet_labels import class_names_of


@dataclasses.dataclass(frozen=True)
class Asked:
    """A method with its options, as "rollout:discard=0.9". title: as it was asked for."""

    title: str
    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def file_name(self) -> str:
        """The title as a part of a file's name."""
        return "_".join(part for part in _split(self.title) if part)


@dataclasses.dataclass(frozen=True, eq=False)
class Map:
    """What a method says of one image, raw: values (h, w), where they lie, pixels (H, W) or None.

    signed: whether values below zero speak against the class. inside: of a network with filter
    stages, the share of what is above 0 inside the pixels that each of them kept.
    """

    asked: Asked
    values: np.ndarray
    cells: Cells
    signed: bool
    pixels: np.ndarray | None = None
    inside: tuple[float | None, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """One image: its maps in the order asked for, its predicted and its explained class.

    classes: names; shares: their probabilities; target, predicted: numbers. All None without a
    head. heads: how the last block's heads look, (H, h, w), where asked for. stages, areas: what a
    filter network kept, and the share of the image that it is.
    """

    maps: tuple[Map, ...]
    target: int | None
    predicted: int | None
    shares: np.ndarray | None
    classes: tuple[str, ...] | None
    heads: Any = None
    stages: tuple[StageMask, ...] = ()
    areas: tuple[float, ...] = ()

    @property
    def caption(self) -> str:
        """What is explained, in words."""
        if self.shares is None:
            return "no head, no class"

        def told(number: int) -> str:
            return f"{self.classes[number]} {100 * self.shares[number]:.3g} %"

        if self.target == self.predicted:
            return f"predicted: {told(self.predicted)}"
        return f"explained: {told(self.target)}, predicted: {told(self.predicted)}"


class Explainer:
    """Images (B, H, W, 3) float32, prepared for the network → `Explained` of each.

    target: the number of the class that is explained, None = the predicted one. heads: whether the
    heads of the last block are wanted too. ValueError, in one line that begins with the method, for
    one that isn't defined for the network.
    """

    def __init__(
        self,
        model: Any,
        variables: Any,
        methods: Sequence[Asked],
        target: int | None = None,
        heads: bool = False,
    ) -> None:
        self._model, self._variables = encoder_of(model, variables)
        self._own_variables = model.encoder_variables
        self.methods, self._target = tuple(methods), target
        self._views = AttentionViews(model, variables, [-1]) if heads else None
        chooses = "filter" in self._model.collections and self._model.filter_stages
        self._kept = KeptTokens(self._model, self._variables) if chooses else None
        self.classes = class_names_of(self._model) if self._model.num_classes else None
        self._shares = jax.jit(
            lambda variables, images: jax.nn.softmax(
                self._model.apply(variables, images).astype(jnp.float32), axis=-1
            )
        )

    @property
    def model(self) -> Any:
        """The network that is explained."""
        return self._model

    @property
    def passes(self) -> int:
        """How many forward passes an image costs about; see `passes_of`."""
        return 1 + sum(passes_of(one.name, dict(one.options)) for one in self.methods)

    @property
    def filter_stages(self) -> list[int]:
        """The numbers of the stages that choose pixels; none in other networks."""
        return [] if self._kept is None else list(self._model.filter_stages)

    def with_variables(self, variables: Any) -> Self:
        """The same with other weights; what is compiled is shared."""
        other = copy.copy(self)
        other._variables = self._own_variables(variables)
        if self._kept is not None:
            other._kept = self._kept.with_variables(other._variables)
        if self._views is not None:
            other._views = self._views.with_variables(other._variables)
        return other

    def __call__(self, images: np.ndarray, names: Sequence[str] = ()) -> list[Explained]:
        """names: of the images, for errors."""
        size, number = images.shape[1:3], len(images)
        shares = None
        if self.classes is not None:
            shares = np.asarray(self._shares(self._variables, images))
        kept = [()] * number if self._kept is None else self._kept(images)
        target = self._target
        found = [self._explain(asked, images, target) for asked in self.methods]
        views = None if self._views is None else self._views(images)
        explained = []
        for i in range(number):
            maps = tuple(
                self._map(asked, one, i, size, kept[i], names[i] if i < len(names) else "")
                for asked, one in zip(self.methods, found, strict=True)
            )
            predicted = None if shares is None else int(shares[i].argmax())
            explained.append(
                Explained(
                    maps,
                    predicted if target is None else target,
                    predicted,
                    None if shares is None else shares[i],
                    self.classes,
                    None if views is None else views[i][0],
                    kept[i],
                    tuple(map(kept_area, kept[i])),
                )
            )
        return explained

    def _explain(self, asked: Asked, images: np.ndarray, target: int | None) -> Any:
        try:
            found = attribute(
                self._model, self._variables, images, asked.name, target, **dict(asked.options)
            )
        except ValueError as error:
            text = str(error)
            raise ValueError(
                f"methods: {text if text.startswith(asked.name) else f'{asked.title}: {text}'}"
            ) from None
        return found.replace(joint=None, tokens=None)

    def _map(
        self,
        asked: Asked,
        found: Any,
        i: int,
        size: tuple[int, int],
        kept: Sequence[StageMask],
        name: str,
    ) -> Map:
        values = np.asarray(found.map[i])
        if not np.isfinite(values).all():
            where = f", {name}" if name else ""
            raise ValueError(
                f"methods: {asked.title} gives NaN or infinities on this network{where}"
            )
        cells = map_cells(self._model, values.shape, size)
        inside = tuple(kept_share(values, cells, stage) for stage in kept)
        pixels = None if found.pixels is None else np.asarray(found.pixels[i])
        return Map(asked, values, cells, found.signed, pixels, inside)


def asked_method(text: str) -> Asked:
    """A method and its options from "NAME" or "NAME:KEY=VALUE,…"; a value is a number or a word.

    ValueError for a text of another form; which methods and options there are, `attribute` says.
    """
    name, _, rest = text.partition(":")
    options = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key or not value:
            raise ValueError(f"methods: {text!r}, expected NAME or NAME:KEY=VALUE,…")
        options[key] = _value(value)
    return Asked(text, name, tuple(options.items()))


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None if text == "None" else text


def _split(title: str) -> list[str]:
    for sign in ":=,":
        title = title.replace(sign, " ")
    return title.split(" ")
