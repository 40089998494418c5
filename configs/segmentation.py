"""Semantic segmentation: the class of each pixel, and attention transfer into its encoder.

    python -m vit_jax_xfer.main --config=configs/segmentation.py:upernet --workdir=runs/upernet \
        --config.data.source=ade20k:/data/ADEChallengeData2016
    python -m vit_jax_xfer.main --config=configs/segmentation.py:coco128 --workdir=runs/pixels \
        --config.data.source=masks:/data/coco128/images:/data/coco128/semantic_segmentation/masks

Full size, on ADE20K, by the published recipes (experiments/dense_recipes.py): upernet (MAE ViT-B,
48.1 mIoU by their code; upernet_large 53.6), linear (a frozen DINOv2 ViT-B under DINOv3's recipe),
segmenter (ViT-B with a mask transformer, 48.5), setr (ViT-L, 48.6). Not run here.
Small, for two cores and a hundred images: coco128 (linear) and coco128_upernet, 1,000 steps of 8
at 192 pixels on a ViT of width 192 and depth 4. seed=N.
Any of them learns a teacher's attention too: `--config.task.teacher=…`, with `--config.task.mode=`,
`--config.task.weight=` (λ) and a second stream of images, `--config.unlabeled.source=`.
`--config.model.backbone=filter_vit_xs` or `--config.model.lift=lift` change what a head stands on.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.dense_recipes import (
    segment_small,
    train_linear,
    train_segmenter,
    train_setr,
    train_upernet,
)
from vit_jax_xfer.experiments.own_images import refuse_own_images
from vit_jax_xfer.experiments.variants import parse_arg

# Backbone, start, head and its fields.
RECIPES = {
    "upernet": (
        "vit_base_patch16",
        "mae_pretrain_vit_base.pth",
        {"head": "upernet", "layers": (3, 5, 7, 11), "channels": 768, "final_norm": False},
    ),
    "upernet_large": (
        "vit_large_patch16",
        "mae_pretrain_vit_large.pth",
        {"head": "upernet", "layers": (7, 11, 15, 23), "channels": 1024, "final_norm": False},
    ),
    "linear": ("vit_base_patch14_dinov2", "dinov2_vitb14_pretrain.pth", {"head": "linear"}),
    "segmenter": (
        "vit_base_patch16",
        "hf:timm/vit_base_patch16_384.augreg_in21k_ft_in1k",
        {"head": "segmenter"},
    ),
    "setr": (
        "vit_large_patch16",
        "hf:timm/vit_large_patch16_384.augreg_in21k_ft_in1k",
        {"head": "setr_pup", "layers": (9, 14, 19, 23), "final_norm": False},
    ),
}
SMALL = {"coco128": {"head": "linear"}, "coco128_upernet": {"head": "upernet", "channels": 64}}


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a recipe or a small form, with a seed."""
    refuse_own_images(arg, "give maps of classes, --config.data.source=masks:IMAGES:MASKS")
    name, numbers = parse_arg(arg, (*RECIPES, *SMALL), seed=0)
    name = name or "upernet"
    small = name in SMALL
    backbone, start, fields = RECIPES.get(name, ("vit_tiny_patch16", "", SMALL.get(name)))
    config = default_config(
        "segmentation",
        "segmentation",
        settings={},
        backbone=backbone,
        dtype=None if small else "bfloat16",
        **fields,
    )
    config.seed, config.init_from = numbers["seed"], start
    if small:
        segment_small(config)
        return config
    config.data.source = "ade20k:/data/ADEChallengeData2016"
    if name.startswith("upernet"):
        train_upernet(config, 0.65 if name == "upernet" else 0.85, 0.1)
    else:
        {"linear": train_linear, "segmenter": train_segmenter, "setr": train_setr}[name](config)
    return config
