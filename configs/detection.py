"""Detection: boxes and masks of objects, and attention transfer into the detector's encoder.

    python -m vit_jax_xfer.main --config=configs/detection.py:base --workdir=runs/vitdet \
        --config.data.source=coco:/data/coco --config.init_from=mae_pretrain_vit_base.pth
    python -m vit_jax_xfer.main --config=configs/detection.py:coco128 --workdir=runs/boxes \
        --config.data.source=yolo:IMAGES:LABELS:CLASSES

Full size, on COCO: ViTDet's Mask R-CNN (2203.16527) on MAE's base (100 epochs; published 51.6 AP of
boxes, 45.9 of masks), large (55.6, 49.2) and huge (75 epochs; 56.7, 50.2); cascade=1 its cascade
(54.0, 57.6, 58.7); scratch=1 from random weights, 300 epochs of base and 200 of large: what a
transfer must beat (48.1, 50.0 without relative positions). Not run here.
Small, for two cores and a hundred images: coco128 (the light centre detector on a ViT of width 192
and depth 4), coco128_regions (Mask R-CNN without masks on a small ViTDet), coco128_filter
(FilterViT's own maps).
seed=N.
Any of them learns a teacher's attention too: `--config.task.teacher=…`, with `--config.task.mode=`,
`--config.task.weight=` (λ) and a second stream of images, `--config.unlabeled.source=`.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.dense_recipes import (
    detect_small,
    train_vitdet,
    train_vitdet_from_scratch,
)
from vit_jax_xfer.experiments.own_images import refuse_own_images
from vit_jax_xfer.experiments.variants import parse_arg

# Epochs, layer decay and stochastic depth from MAE's weights; epochs from random ones.
SIZES = {
    "base": (100.0, 0.7, 0.1, 300.0),
    "large": (100.0, 0.8, 0.4, 200.0),
    "huge": (75.0, 0.9, 0.5, 0.0),
}
PLAIN = {"backbone": "vit_tiny_patch16", "depth": 4}
SMALL = {
    "coco128": ("centre_detector", PLAIN),
    "coco128_regions": (
        "mask_rcnn",
        {
            **{"backbone": "vitdet_tiny_patch16", "depth": 4, "window_size": 4},
            **{"masks": False, "pyramid_width": 64, "region_hidden": 256, "anchor_scale": 4.0},
            **{"proposals": 200, "regions": 64},
        },
    ),
    "coco128_filter": ("centre_detector", {"backbone": "filter_vit_xs"}),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a size or a small form, with its numbers."""
    refuse_own_images(arg, "give boxes, --config.data.source=coco:ROOT, yolo:DATA.yaml, voc:PATH")
    name, numbers = parse_arg(arg, (*SIZES, *SMALL), cascade=0, scratch=0, seed=0)
    if name in SMALL:
        return _small(name, **numbers)
    name = name or "base"
    epochs, layer_decay, drop_path, from_scratch = SIZES[name]
    config = default_config(
        "detection",
        "cascade_mask_rcnn" if numbers["cascade"] else "mask_rcnn",
        settings={},
        backbone=f"vitdet_{name}_patch16",
        dtype="bfloat16",
        remat="full",
    )
    config.seed = numbers["seed"]
    if not numbers["scratch"]:
        config.init_from = f"mae_pretrain_vit_{name}.pth"
        train_vitdet(config, epochs, layer_decay, drop_path, spares=name != "huge")
    elif from_scratch:
        train_vitdet_from_scratch(config, from_scratch, drop_path)
    else:
        raise ValueError("config argument scratch=1: of base and large, whose runs are published")
    return config


def _small(name: str, cascade: int, scratch: int, seed: int) -> ConfigDict:
    if cascade or scratch:
        raise ValueError("config argument cascade, scratch: of the full size alone; leave them out")
    model, fields = SMALL[name]
    config = default_config("detection", model, settings={}, **fields)
    config.seed = seed
    detect_small(config)
    return config
