"""Any encoder as a backbone: its feature maps, doubled by LiFT where there is one."""

import flax.linen as nn
import jax

from vit_jax_xfer.models.lifting.feature_doubler import FeatureDoubler
from vit_jax_xfer.models.protocol import Layers, Network


class MapBackbone(nn.Module):
    """Images (B, H, W, 3) → feature maps (B, h, w, C), fine to coarse: what heads read.

    layers: of the encoder, see `Network.feature_maps`; None = its own choice.
    lift: doubles each of the maps, whose strides halve (LiFT, 2403.14625). It is made for one
    stride and one width, so with it an encoder of several maps gives its coarsest alone where
    `layers` says nothing.
    """

    encoder: Network
    lift: FeatureDoubler | None = None
    layers: Layers = None

    def __call__(self, images: jax.Array, train: bool = False) -> tuple[jax.Array, ...]:
        map_layout(self.encoder, self.lift, self.layers)
        maps = self.encoder.feature_maps(images, train, self.layers)
        return self.doubled(maps, images, train)

    def doubled(
        self, maps: tuple[jax.Array, ...], images: jax.Array, train: bool = False
    ) -> tuple[jax.Array, ...]:
        """The encoder's maps as heads read them: by LiFT at twice the sides, or as they are."""
        if self.lift is None:
            return maps
        maps = maps if self.layers is not None else maps[-1:]
        return tuple(self.lift(images, x, train) for x in maps)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the image from one cell of a map to the next, for each map."""
        return tuple(stride for stride, _ in map_layout(self.encoder, self.lift, self.layers))

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each map."""
        return tuple(width for _, width in map_layout(self.encoder, self.lift, self.layers))


def map_layout(
    encoder: Network, lift: FeatureDoubler | None = None, layers: Layers = None
) -> tuple[tuple[int, int], ...]:
    """(stride, width) of each map that a backbone gives.

    ValueError, naming the field, unless encoder, layers and lift fit each other.
    """
    if not encoder.map_strides:
        raise ValueError(f"backbone: a {type(encoder).__name__} gives no feature maps")
    layout = encoder.map_layout(layers)
    if lift is None:
        return layout
    layout = layout if layers is not None else layout[-1:]
    for found in layout:
        if found != (lift.patch_size, lift.width):
            raise ValueError(
                f"lift: made for features of stride {lift.patch_size} and width {lift.width}; the "
                f"backbone's have stride {found[0]} and width {found[1]}"
            )
    return tuple((stride // 2, width) for stride, width in layout)
