"""A frozen vision transformer as a function from images to features."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.descriptors import descriptors
from vit_jax_xfer.models.extract import encoder_of
from vit_jax_xfer.models.lifting.feature_source import FeatureSource, backbone_fingerprint
from vit_jax_xfer.models.preprocessing import IMAGENET, Channels
from vit_jax_xfer.models.vit import VisionTransformer

MeanStd = tuple[Channels, Channels]


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network and which of its features are taken; the weights are passed in.

    facet, layer, stride, log_bins: as in `descriptors`. name: for tables and messages. mean_std:
    of pixels in [0, 1], which become (pixel - mean) / std.
    """

    model: VisionTransformer
    facet: str = "key"
    layer: int | tuple[int, ...] = -1
    stride: int | None = None
    log_bins: bool = False
    name: str = "the backbone"
    mean_std: MeanStd = IMAGENET

    def __call__(self, variables: Any, images: jax.Array) -> jax.Array:
        """Features (B, h, w, C) float32 of prepared images (B, H, W, 3)."""
        return descriptors(
            self.model, variables, images, self.facet, self.layer, self.stride, self.log_bins
        )

    @property
    def patch_size(self) -> int:
        """Pixels of a patch's side."""
        return self.model.patch_size

    @property
    def step(self) -> int:
        """Pixels from one patch to the next; less than a patch where patches overlap."""
        return self.stride or self.model.patch_stride or self.patch_size

    @property
    def width(self) -> int:
        """Channels of the features."""
        shape = (1, self.patch_size, self.patch_size, 3)
        images = jax.ShapeDtypeStruct(shape, jnp.float32)
        variables = jax.eval_shape(self.model.init, jax.random.key(0), images)
        return jax.eval_shape(self, variables, images).shape[-1]

    def source(self, variables: Any) -> FeatureSource:
        """What a network that is trained on these features must remember."""
        fingerprint = backbone_fingerprint(self.model, variables)
        if len(self.layers) > 1:
            raise ValueError("layer: a network is trained on the features of one, not of several")
        return FeatureSource(fingerprint, self.name, self.facet, self.layers[0])

    @property
    def layers(self) -> tuple[int, ...]:
        """The blocks whose features stand side by side, counted from 0."""
        chosen = self.layer if isinstance(self.layer, tuple) else (self.layer,)
        return tuple(one % self.model.depth for one in chosen)


def mean_std_of(model: Any) -> MeanStd:
    """Of pixels in [0, 1], as the publisher says, or assumed where it doesn't."""
    if model.preprocessing is None:
        return model.assumed_mean_std
    return model.preprocessing.mean, model.preprocessing.std


def backbone_of(
    model: Any, variables: Any, name: str = "the backbone", **taken: Any
) -> tuple[Backbone, Any]:
    """The Backbone in a network, such as a masked autoencoder's encoder, and its variables.

    taken: facet, layer, stride, log_bins, and mean_std; without it the publisher's, or what is
    assumed of such networks. ValueError for a network without such features.
    """
    model, variables = encoder_of(model, variables)
    if "qkv" not in model.collections:
        raise ValueError(
            f"{name}: a {type(model).__name__} has no descriptors; choose a vision transformer"
        )
    backbone = Backbone(model, name=name, **{"mean_std": mean_std_of(model), **taken})
    shape = (1, model.patch_size, model.patch_size, 3)
    # Wrong names are reported before anything runs.
    jax.eval_shape(backbone, variables, jax.ShapeDtypeStruct(shape, jnp.float32))
    return backbone, variables
