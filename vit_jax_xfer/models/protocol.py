"""What every network answers, so that nobody asks of which class it is.

A new network is a subclass of `Network` and an entry in `registry.ENTRIES`; what differs from the
answers here it says itself. From these answers alone follow its fields in a config, its description
on disk, its start from other weights, its multiply-adds, and what can be done with it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.preprocessing import IMAGENET
from vit_jax_xfer.models.transformer.patches import ImageSize, sides_of

Shapes = tuple[jax.ShapeDtypeStruct, ...]
Layers = Sequence[int] | None
# What networks predict that know classes by number: they have num_classes, and class_names.
OF_CLASSES = ("classes", "masks", "boxes")


class Network(nn.Module):
    """A network of the table in registry.py, and the answers that most of them share.

    A subclass also has `encoder`: the network inside that turns images into tokens, or itself.
    """

    # What its result is: logits of "classes" (it has num_classes), the same of each pixel, "masks",
    # "boxes" of objects with their classes, "pixels" of masked patches, or "features" at twice the
    # resolution of those that it is given besides images.
    predicts = "classes"
    # The collections of models/collections.py and "filter" that its blocks write when asked, and
    # whose values they take as `given`. Attention is transferred between networks that have it.
    collections = ()
    # Parameters by the first part of their path: those that map features to classes, and all that
    # may start afresh where other weights lack them or have them in another shape.
    heads = ("head",)
    starts_afresh = ("head",)
    # Whether weights of its encoder's kind alone are a start for it, under "encoder".
    starts_from_encoder = False

    # Of the feature maps that it gives, fine to coarse: pixels from one cell to the next, and
    # channels. () = it gives none.
    map_strides = ()
    map_widths = ()

    blocks_alike = True  # whether they could be one block, scanned over layers

    # Fields of those networks that have them.
    depth = 0  # layers that layer decay counts
    image_size = None  # pixels that it is meant for
    in_channels = 3  # of its images
    preprocessing = None  # how its images are prepared
    assumed_mean_std = IMAGENET  # of its pixels, in commands, where `preprocessing` is None
    num_classes = 0  # of its logits
    class_names = None  # of its logits, in order

    @property
    def kind(self) -> str:
        """What it is called in an overview."""
        return type(self).__name__

    def summary(self) -> dict[str, str]:
        """The rows of an overview after its kind: {what: in words}."""
        return {}

    @nn.nowrap
    def encoder_variables(self, variables: Any) -> Any:
        """The part of the network's variables that `encoder` is applied with."""
        return variables

    @nn.nowrap
    def example_inputs(self, image_size: ImageSize | None = None, batch: int = 1) -> Shapes:
        """Abstract inputs of a call: images (B, H, W, in_channels) float32, and the rest.

        image_size: pixels, None = the smallest that shows the shape of every variable.
        """
        height, width = sides_of(self.image_size if image_size is None else image_size)
        return (jax.ShapeDtypeStruct((batch, height, width, self.in_channels), jnp.float32),)

    @nn.nowrap
    def init_variables(self, key: jax.Array) -> dict[str, Any]:
        """Fresh variables, {"params": …} and whatever else the network keeps."""
        return self.init(key, *(jnp.zeros(x.shape, x.dtype) for x in self.example_inputs()))

    def num_tokens(self, image_shape: tuple[int, ...]) -> int:
        """How many tokens an image (…, H, W, 3) becomes. ValueError for one that doesn't fit."""
        raise TypeError(f"a {type(self).__name__} does not say what an image becomes")

    @nn.nowrap
    def map_layout(self, layers: Layers = None) -> tuple[tuple[int, int], ...]:
        """(stride, width) of each map that `feature_maps` gives for these layers."""
        if layers is not None:
            raise ValueError(f"layers: a {type(self).__name__} gives no maps of single layers")
        return tuple(zip(self.map_strides, self.map_widths, strict=True))

    def feature_maps(
        self, images: jax.Array, train: bool = False, layers: Layers = None
    ) -> tuple[jax.Array, ...]:
        """Maps (B, h, w, C) of images (B, H, W, 3), for heads that look at places.

        layers: whose outputs, in this order; negative counts from the end; None = those whose
        strides and widths are `map_strides` and `map_widths`.
        """
        raise TypeError(f"a {type(self).__name__} gives no feature maps")

    @nn.nowrap
    def headless(self) -> Self:
        """The same network without classes, as the encoder of another one."""
        return self.with_fields(num_classes=0, class_names=None)

    @nn.nowrap
    def with_fields(self, **fields: Any) -> Self:
        """The same network with those of these fields that it has, or that its encoder has."""
        known = {name: value for name, value in fields.items() if name in self.keywords()}
        return self.clone(**known) if known else self

    @nn.nowrap
    def adapt(self, source: "Network", variables: dict[str, Any]) -> dict[str, Any]:
        """Variables of `source`, a network of this class, in the form that this one's have.

        Blocks stand one by one in them, scanned or not.
        ValueError, naming the field, where a difference of the two can't be bridged.
        """
        return variables

    @classmethod
    def keywords(cls) -> dict[str, dataclasses.Field]:
        """The fields that `create_model` takes by keyword."""
        fields = dataclasses.fields(cls)
        return {field.name: field for field in fields if field.name not in ("parent", "name")}

    @classmethod
    def from_keywords(cls, fields: Mapping[str, Any]) -> Self:
        """The network of fields that are among `keywords`."""
        return cls(**fields)
