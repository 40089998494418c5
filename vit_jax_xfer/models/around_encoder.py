"""What networks around an encoder answer alike: most of it is the encoder's."""

import dataclasses
from typing import Any, Self

import flax.linen as nn

from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.models.transformer.patches import ImageSize


class AroundEncoder(Network):
    """A network whose field `encoder` is one, with parameters of its own around it.

    A subclass says of `inside` which fields are networks; keywords are its other fields and the
    encoder's.
    """

    inside = ("encoder",)

    @property
    def depth(self) -> int:
        """Layers of the encoder."""
        return self.encoder.depth

    @property
    def image_size(self) -> ImageSize:
        """That the encoder is meant for, pixels."""
        return self.encoder.image_size

    @property
    def preprocessing(self) -> Preprocessing | None:
        """How the encoder's images are prepared."""
        return self.encoder.preprocessing

    def num_tokens(self, image_shape: tuple[int, ...]) -> int:
        return self.encoder.num_tokens(image_shape)

    @nn.nowrap
    def encoder_variables(self, variables: Any) -> Any:
        return {
            name: collection["encoder"]
            for name, collection in variables.items()
            if "encoder" in collection
        }

    @nn.nowrap
    def with_fields(self, **fields: Any) -> Self:
        own = {name: fields.pop(name) for name in self.own_keywords() if name in fields}
        encoder = self.encoder.with_fields(**fields)
        return self.clone(encoder=encoder, **own) if own or encoder is not self.encoder else self

    @classmethod
    def own_keywords(cls) -> dict[str, dataclasses.Field]:
        """Its fields but for the networks inside."""
        found = super().keywords()
        return {name: field for name, field in found.items() if name not in cls.inside}
