"""Boxes and regions with static shapes: overlap, codec, anchors, matching, suppression, pooling.

    kept, valid = vjx.detection.nms(boxes, scores, 0.5, max_output=100, classes=classes)    # (100,)
    regions = vjx.detection.roi_align(features, boxes, 7, 1 / 16)                 # (N, 7, 7, C)

Boxes are x0, y0, x1, y1 in pixels, and all of it is float32, whatever a network computes in. What
is many operations is compiled as a whole, so that a notebook waits for one program and not for one
an operation. Each name is imported when it is first used.
"""

from typing import TYPE_CHECKING

from vit_jax_xfer.lazy_names import lazy_names

_WHERE = {
    "area": "vit_jax_xfer.detection.box_overlap",
    "iou": "vit_jax_xfer.detection.box_overlap",
    "giou": "vit_jax_xfer.detection.box_overlap",
    "diou": "vit_jax_xfer.detection.box_overlap",
    "ciou": "vit_jax_xfer.detection.box_overlap",
    "encode": "vit_jax_xfer.detection.box_codec",
    "decode": "vit_jax_xfer.detection.box_codec",
    "clip": "vit_jax_xfer.detection.box_codec",
    "anchors": "vit_jax_xfer.detection.anchor_grid",
    "match": "vit_jax_xfer.detection.box_matching",
    "hungarian": "vit_jax_xfer.detection.box_matching",
    "sample": "vit_jax_xfer.detection.box_matching",
    "nms": "vit_jax_xfer.detection.suppression",
    "soft_nms": "vit_jax_xfer.detection.suppression",
    "roi_align": "vit_jax_xfer.detection.region_pooling",
    "roi_align_levels": "vit_jax_xfer.detection.region_pooling",
    "roi_levels": "vit_jax_xfer.detection.region_pooling",
    "mask_targets": "vit_jax_xfer.detection.region_masks",
    "paste_masks": "vit_jax_xfer.detection.region_masks",
    "binary_cross_entropy": "vit_jax_xfer.detection.detection_losses",
    "focal_loss": "vit_jax_xfer.detection.detection_losses",
    "quality_focal_loss": "vit_jax_xfer.detection.detection_losses",
    "smooth_l1": "vit_jax_xfer.detection.detection_losses",
    "varifocal_loss": "vit_jax_xfer.detection.detection_losses",
}

__all__ = [
    "anchors",
    "area",
    "binary_cross_entropy",
    "ciou",
    "clip",
    "decode",
    "diou",
    "encode",
    "focal_loss",
    "giou",
    "hungarian",
    "iou",
    "mask_targets",
    "match",
    "nms",
    "paste_masks",
    "quality_focal_loss",
    "roi_align",
    "roi_align_levels",
    "roi_levels",
    "sample",
    "smooth_l1",
    "soft_nms",
    "varifocal_loss",
]

if TYPE_CHECKING:
    from vit_jax_xfer.detection.anchor_grid import anchors
    from vit_jax_xfer.detection.box_codec import clip, decode, encode
    from vit_jax_xfer.detection.box_matching import hungarian, match, sample
    from vit_jax_xfer.detection.box_overlap import area, ciou, diou, giou, iou
    from vit_jax_xfer.detection.detection_losses import (
        binary_cross_entropy,
        focal_loss,
        quality_focal_loss,
        smooth_l1,
        varifocal_loss,
    )
    from vit_jax_xfer.detection.region_masks import mask_targets, paste_masks
    from vit_jax_xfer.detection.region_pooling import roi_align, roi_align_levels, roi_levels
    from vit_jax_xfer.detection.suppression import nms, soft_nms


if not TYPE_CHECKING:  # else a type checker takes any name for one of these
    __getattr__, __dir__ = lazy_names(__name__, _WHERE)
