"""Detectors: boxes, and perhaps masks, of the objects in an image, from any encoder's maps."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from vit_jax_xfer.models.dense.centre_head import CentreHead
from vit_jax_xfer.models.dense.counted_mean import CountedMean
from vit_jax_xfer.models.dense.dense_network import DenseNetwork
from vit_jax_xfer.models.dense.detections import (
    SUPPRESSIONS,
    Choice,
    Detections,
    content_of,
    nan_for_wrong_labels,
    truth_of,
)
from vit_jax_xfer.models.dense.feature_pyramid import FeaturePyramid
from vit_jax_xfer.models.dense.region_heads import RegionHeads
from vit_jax_xfer.models.dense.simple_pyramid import SimplePyramid
from vit_jax_xfer.models.transformer.patches import check_images

KINDS = {"regions": "Mask R-CNN", "cascade": "cascade Mask R-CNN", "centres": "centre detector"}
_REGION_FIELDS = {
    "masks": True,
    "region_hidden": 1024,
    "anchor_scale": 8.0,
    "proposals": 1000,
    "regions": 512,
}
# Of each head the fields that it has alone, and what they are where they are None.
HEADS: dict[str, dict[str, Any]] = {
    "regions": _REGION_FIELDS,
    "cascade": _REGION_FIELDS,
    "centres": {"centre_depth": 2},
}
PYRAMIDS = ("auto", "simple", "feature")
STAGES = 3  # of a cascade

Maps = tuple[jax.Array, ...]


class Detector(DenseNetwork):
    """Images (B, H, W, 3) float32 → `Detections`, the objects of each, by falling score.

    `losses` is what it learns by. Sources: Mask R-CNN (1703.06870) as in ViTDet (2203.16527), its
    cascade (1712.00726), FCOS (1904.01355) with joint scores (2006.04388).
    """

    predicts = "boxes"
    heads = (
        *(f"box_predictor_{i}" for i in range(STAGES)),
        "mask_predictor",
        "centre_predictor",
    )
    # A Mask R-CNN starts a cascade, and one without masks another with.
    starts_afresh = (*heads, *(f"box_head_{i}" for i in range(STAGES)), "mask_head")

    head: str = "regions"  # regions (Mask R-CNN) | cascade (of it, three stages) | centres (light)
    num_classes: int = 80
    class_names: tuple[str, ...] | None = None  # of the classes, in order; travel along
    pyramid: str = "auto"  # simple, of one map (ViTDet) | feature, of each map | auto, by number
    pyramid_width: int = 256  # channels of the pyramid's levels, and of the heads' convolutions
    # Of regions and a cascade alone; None = the values of HEADS.
    masks: bool | None = None  # whether there is a mask head
    region_hidden: int | None = None  # of the box head's hidden layer
    anchor_scale: float | None = None  # sides of square anchors, in strides of their level
    proposals: int | None = None  # kept an image; in training of twice as many a level
    regions: int | None = None  # drawn an image for the losses of boxes and masks
    # Of the centre head alone: convolutions before classes and before boxes.
    centre_depth: int | None = None
    max_detections: int = 100  # an image
    score_threshold: float = 0.05  # below which there is no detection
    suppression: str = "hard"  # hard | linear | gaussian (soft-NMS), within a class
    suppression_overlap: float = 0.5  # IoU above which the weaker one goes

    def setup(self) -> None:
        super().setup()
        self._check_fields()
        given = self.head_fields(HEADS)
        choice = Choice(
            self.max_detections, self.score_threshold, self.suppression_overlap, self.suppression
        )
        if self._simple:
            stride = self.strides[0]
            self.levels = SimplePyramid(self.pyramid_width, stride, self.dtype, name="pyramid")
            strides = self.levels.strides
        else:
            light = self.head == "centres"
            self.levels = FeaturePyramid(
                self.pyramid_width, int(not light), light, self.dtype, name="pyramid"
            )
            strides = self.levels.strides_of(self.strides)
        common = {"choice": choice, "dtype": self.dtype}
        # Its parameters lie beside the encoder's, so that heads for other classes start from it.
        if self.head == "centres":
            self.inner = CentreHead(
                self.num_classes, strides, self.pyramid_width, given["centre_depth"], **common
            )
        else:
            self.inner = RegionHeads(
                self.num_classes,
                strides,
                self.pyramid_width,
                given["region_hidden"],
                self.head == "cascade",
                given["masks"],
                given["anchor_scale"],
                given["proposals"],
                given["regions"],
                **common,
            )
        nn.share_scope(self, self.inner)

    def __call__(
        self, images: jax.Array, train: bool = False, content: jax.Array | None = None
    ) -> Detections | None:
        return self.decode(self.encode(images, train), images, train, content)

    def detect(self, images: jax.Array, content: jax.Array | None = None) -> Detections:
        """The objects of images. content: (B, 2) height and width of what is no padding."""
        return self(images, content=content)

    def losses(
        self,
        images: jax.Array,
        targets: Mapping[str, jax.Array],
        key: jax.Array,
        train: bool = True,
    ) -> dict[str, jax.Array]:
        """What it learns by, {name: scalar float32}; their sum is to fall.

        targets: `boxes` (B, G, 4), `box_labels` (B, G) with -1 on padding, perhaps `box_masks`
        (B, G, m, m) and `content` (B, 2). key: of what is drawn. What is no box counts as padding;
        a label beyond the classes makes all losses NaN.
        """
        found = self.decode_losses(self.encode(images, train), images, targets, key)
        return {name: loss.mean() for name, loss in found.items()}

    def decode(
        self,
        maps: Maps,
        images: jax.Array,
        train: bool = False,
        content: jax.Array | None = None,
    ) -> Detections | None:
        """`detect` from the encoder's maps; of images only the shape counts.

        None where parameters are only made: finding objects would be most of that program.
        """
        levels = self._levels(maps)
        if self.is_initializing():
            return self.inner.make_parameters(levels)
        return self.inner.detect(levels, content_of(content, len(images), images.shape[1:3]))

    def decode_losses(
        self, maps: Maps, images: jax.Array, targets: Mapping[str, jax.Array], key: jax.Array
    ) -> dict[str, CountedMean]:
        """`losses` from the encoder's maps, and what each counts; of images only the shape does."""
        check_images(images)
        truth = truth_of(targets, images.shape[1:3])
        levels = self._levels(maps)
        return nan_for_wrong_labels(self.inner.losses(levels, truth, key), truth, self.num_classes)

    def _levels(self, maps: Maps) -> list[jax.Array]:
        """The pyramid's levels that have cells; of a small image the coarsest have none."""
        levels = self.levels(*maps) if self._simple else self.levels(maps)
        return [level for level in levels if level.size]

    @property
    def kind(self) -> str:
        return KINDS.get(self.head, self.head)

    @property
    def _simple(self) -> bool:
        """Whether the pyramid is made of one map."""
        return self.pyramid == "simple" or (self.pyramid == "auto" and len(self.strides) == 1)

    @property
    def has_masks(self) -> bool:
        """Whether it tells the masks of objects besides their boxes."""
        return self.head_fields(HEADS).get("masks", False)

    def _check_fields(self) -> None:
        for field, allowed in (
            ("pyramid", PYRAMIDS),
            ("suppression", SUPPRESSIONS),
        ):
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}: {getattr(self, field)!r} is none of {allowed}")
        if self.pyramid == "simple" and len(self.strides) != 1:
            raise ValueError(
                f"pyramid: 'simple' is made of one map, and the backbone gives {len(self.strides)};"
                " choose 'feature', or one layer by `layers`"
            )
