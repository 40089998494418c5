"""What networks of an encoder and a head on its maps answer alike."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.around_encoder import AroundEncoder
from vit_jax_xfer.models.dense.map_backbone import MapBackbone, map_layout
from vit_jax_xfer.models.filter.network import FilterViT
from vit_jax_xfer.models.lifting.feature_doubler import FeatureDoubler
from vit_jax_xfer.models.protocol import Layers, Network
from vit_jax_xfer.models.vit import VisionTransformer


@dataclasses.dataclass
class _Named:
    """The networks inside, as keywords name them."""

    backbone: str = "vit_base_patch16"  # the encoder, a name of the registry
    lift: str = ""  # lift | convex_lift, doubles the encoder's maps; "" = none


class DenseNetwork(AroundEncoder):
    """An encoder, perhaps LiFT after it, and a head of a subclass's that reads their maps.

    Parameters lie under "encoder" and "lift", the head's under names that a subclass lists in
    `starts_afresh`. A subclass calls this `setup` in its own and has `decode(maps, …)`.
    As keywords, `backbone` and `lift` name the two networks, and what is none of its own fields is
    the encoder's.
    """

    starts_from_encoder = True
    inside = ("encoder", "lift")

    encoder: Network
    lift: FeatureDoubler | None = None
    layers: Layers = None  # of the encoder, whose maps are read; None = its own choice

    def setup(self) -> None:
        # The networks stay this one's own: parameters are not under "backbone".
        self.backbone = MapBackbone(self.encoder, self.lift, self.layers_read)

    def encode(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        """The maps that the head reads, (B, h, w, C), fine to coarse."""
        return self.backbone(images, train)

    def doubled(
        self, maps: tuple[jax.Array, ...], images: jax.Array, train: bool = False
    ) -> tuple[jax.Array, ...]:
        """What `encode` makes of the encoder's own maps, where those are there already."""
        return self.backbone.doubled(maps, images, train)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels from one cell to the next, for each map that the head reads."""
        return tuple(stride for stride, _ in self._layout())

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each map that the head reads."""
        return tuple(width for _, width in self._layout())

    @property
    def layers_read(self) -> Layers:
        """The encoder's layers whose maps the head reads; None = the encoder's own choice."""
        return self.layers

    @nn.nowrap
    def head_fields(self, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """The fields that this head has, with its default where one is None.

        known: of each head its own fields and their defaults. ValueError for an unknown head, and
        for a field that is another head's.
        """
        if self.head not in known:
            raise ValueError(f"head: {self.head!r} is none of {', '.join(known)}")
        found = dict(known[self.head])
        for field in sorted({name for fields in known.values() for name in fields}):
            value = getattr(self, field)
            if value is None:
                continue
            if field not in found:
                raise ValueError(f"{field}: the head {self.head!r} has none; leave it out")
            found[field] = value
        return found

    def _layout(self) -> tuple[tuple[int, int], ...]:
        return map_layout(self.encoder, self.lift, self.layers_read)

    @property
    def blocks_alike(self) -> bool:
        """Whether the encoder's blocks are."""
        return self.encoder.blocks_alike

    @property
    def dtype(self) -> Any:
        """Of the encoder's activations."""
        return self.encoder.dtype

    def summary(self) -> dict[str, str]:
        return {"encoder": self.encoder.kind, **self.encoder.summary()}

    @nn.nowrap
    def adapt(self, source: "DenseNetwork", variables: dict[str, Any]) -> dict[str, Any]:
        if type(source.encoder) is not type(self.encoder):
            raise ValueError(
                f"backbone: a {source.encoder.kind}'s weights do not fit a {self.encoder.kind}"
            )
        found = self.encoder.adapt(source.encoder, source.encoder_variables(variables))
        return {
            name: {**collection, "encoder": found[name]} if name in found else collection
            for name, collection in variables.items()
        }

    @classmethod
    def keywords(cls) -> dict[str, dataclasses.Field]:
        """Its own, and those of the encoders that there are."""
        named = {field.name: field for field in dataclasses.fields(_Named)}
        encoders = {**FilterViT.keywords(), **VisionTransformer.keywords()}
        return {**encoders, **cls.own_keywords(), **named}

    @classmethod
    def from_keywords(cls, fields: Mapping[str, Any]) -> Self:
        from vit_jax_xfer.models.registry import create_model  # which lists this network

        own = {name: value for name, value in fields.items() if name in cls.own_keywords()}
        named = dataclasses.fields(_Named)
        inside = {field.name: fields.get(field.name) or field.default for field in named}
        known = (*own, *inside)
        rest = {name: value for name, value in fields.items() if name not in known}
        encoder = create_model(inside["backbone"], **rest).encoder.headless()
        if not inside["lift"]:
            return cls(encoder=encoder, **own)
        stride, width = map_layout(encoder, layers=own.get("layers"))[-1]
        dtype = rest.get("dtype", jnp.float32)
        lift = create_model(inside["lift"], patch_size=stride, width=width, dtype=dtype)
        return cls(encoder=encoder, lift=lift, **own)
