"""Semantic segmentation: any encoder that gives maps, and one of four heads on them."""

import math

import flax.linen as nn
import jax

from vit_jax_xfer.models.dense.dense_network import DenseNetwork
from vit_jax_xfer.models.dense.segmentation_heads import (
    LinearHead,
    Maps,
    SegmenterHead,
    SetrHead,
    resized_map,
)
from vit_jax_xfer.models.dense.upernet import FcnHead, ScaleNeck, UPerNetHead
from vit_jax_xfer.models.protocol import Layers

# Each head, and what its fields are where they are not given; without an entry it has no such.
HEADS: dict[str, dict[str, float]] = {
    "linear": {"classifier_dropout": 0.0},
    "upernet": {"channels": 512, "classifier_dropout": 0.1},
    "segmenter": {},
    "setr_pup": {"channels": 256},
}
_QUARTERS = 4  # maps that UPerNet and SETR read of a network whose blocks all have one stride
_AUXILIARY_UP = 4  # by which SETR's auxiliary heads enlarge, before all goes to the image's size


class SegmentationNetwork(DenseNetwork):
    """Images (B, H, W, 3) float32 → logits (B, H, W, K) float32 of each pixel.

    | head      | what it is                                               | maps of a plain ViT |
    |-----------|----------------------------------------------------------|---------------------|
    | linear    | batch norm and a linear layer (DINOv2's, DINOv3's probes) | the last            |
    | upernet   | UPerNet behind a neck of four scales (BEiT, MAE)          | one a quarter       |
    | segmenter | a mask transformer of two blocks (Segmenter)              | the last            |
    | setr_pup  | progressive upsampling (SETR)                             | one a quarter       |

    `layers` chooses other maps. auxiliary: heads on inner maps that only training uses: UPerNet's
    on the map of its third scale, SETR's on each.
    """

    predicts = "masks"
    heads = ("pixel_head", *(f"auxiliary_heads_{i}" for i in range(_QUARTERS)))
    starts_afresh = (*heads, "neck", "lift")

    num_classes: int = 150
    class_names: tuple[str, ...] | None = None  # of the classes, in order; travel along
    head: str = "linear"
    channels: int | None = None  # of the head's layers; None = 512 of UPerNet, 256 of SETR
    classifier_dropout: float | None = None  # of channels; None = 0.1 of UPerNet, 0 of linear
    auxiliary: bool = True

    @property
    def layers_read(self) -> Layers:
        single = len(self.encoder.map_strides) == 1
        if self.layers is not None or not single or self.head not in ("upernet", "setr_pup"):
            return self.layers
        ends = (math.ceil(self.depth * (i + 1) / _QUARTERS) - 1 for i in range(_QUARTERS))
        return tuple(sorted(set(ends)))

    def setup(self) -> None:
        super().setup()
        given = self.head_fields(HEADS)
        auxiliary: list[nn.Module] = []
        kind = {"num_classes": self.num_classes, "dtype": self.dtype}
        if self.head == "linear":
            self.pixel_head = LinearHead(dropout=given["classifier_dropout"], **kind)
        elif self.head == "segmenter":
            self.pixel_head = SegmenterHead(num_heads=_number_of_heads(self.widths[-1]), **kind)
        elif self.head == "upernet":
            fields = {"dropout": given["classifier_dropout"], **kind}
            if self._has_neck:
                self.neck = ScaleNeck(round(math.log2(self.strides[0] / 4)), self.dtype)
            self.pixel_head = UPerNetHead(width=given["channels"], **fields)
            auxiliary = [FcnHead(**fields)]
        else:
            fields = {"width": given["channels"], **kind}
            self.pixel_head = SetrHead(**fields)
            auxiliary = [SetrHead(scales=(_AUXILIARY_UP,), **fields) for _ in self.strides]
        self.auxiliary_heads = auxiliary if self.auxiliary else []

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        return self.decode(self.encode(images, train), images, train)

    def decode(self, maps: Maps, images: jax.Array, train: bool = False) -> jax.Array:
        """Logits (B, H, W, K) of maps of images (B, H, W, 3)."""
        return self.decode_all(maps, images, train)[0]

    def decode_all(
        self, maps: Maps, images: jax.Array, train: bool = False
    ) -> tuple[jax.Array, list[jax.Array]]:
        """Logits (B, H, W, K) of the head, and in training those of each auxiliary one."""
        maps = self.neck(maps, train) if self._has_neck else maps
        size = images.shape[1:3]
        logits = resized_map(self.pixel_head(maps, train), size)
        if not (train or self.is_initializing()):
            return logits, []
        # The one of UPerNet sees its third scale; each of SETR's a map of its own.
        seen = [maps[min(2, len(maps) - 1)]] if self.head == "upernet" else [[x] for x in maps]
        pairs = zip(self.auxiliary_heads, seen, strict=False)
        return logits, [resized_map(head(x, train), size) for head, x in pairs]

    @property
    def _has_neck(self) -> bool:
        return self.head == "upernet" and len(set(self.strides)) == 1


def _number_of_heads(width: int) -> int:
    """Of 64 channels each, as every published encoder has; where 64 is no part, of a few more."""
    return next(n for n in range(max(1, width // 64), 0, -1) if width % n == 0)
