"""Attention copy: the student computes with its teacher's attention maps (2411.09702).

    python -m vit_jax_xfer.main --config=configs/attention_copy.py:digits,labels=5 \\
        --workdir=runs/copy --config.task.teacher=runs/mae/model

Full size: ViT-L/16 on ImageNet, the published command (100 epochs of batch 2048, layer decay 0.75,
no drop path; the paper reports 85.1, on TPUs). RandAugment, random erasing, mixup and CutMix in
groups of 32 images, as published, and the command's floor of the learning rate, 2e-3, above its
base rate of 1e-3 and a quarter of its peak (MAE's is 1e-6, `--config.optim.end_lr=1e-6`).
published=1 takes what the published code does of itself: `task.layers` the first 21 of 24 (here all
24), `optim.layer_decay_to="last_block"` (here MAE's "head", under which all but the head learns
1.33 times slower), float32 (here bfloat16). docs/attention_transfer.md has the list. Not run here.
inaturalist=2018 (2017, 2019, 2021) does the same on that set, `--config.data.source=` its folder:
2411.09702 measures these, and its settings for them were not found; those here are ImageNet's.
Variants: digits, fashion, cifar10; labels=N a class (0 = all), seed=N, published=1,
inaturalist=YEAR.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.recipes import as_the_published_code, fine_tune, use_inaturalist
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_few_labels, use_variant


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a small variant with its numbers, "" for ImageNet."""
    only = {"labels": VARIANTS, "published": ("",), "inaturalist": ("",)}
    variant, numbers = parse_arg(arg, only=only, labels=5, seed=0, published=0, inaturalist=0)
    config = default_config(
        "attention_transfer",
        "vit_large_patch16",
        settings={
            "mode": "copy",
            "teacher": "mae_pretrain_vit_large.pth",
        },
        pool="avg",
        dtype="bfloat16",
    )
    fine_tune(config, epochs=100.0, batch_size=2048)
    config.optim.end_lr = 2e-3
    config.optim.ema = 0.9999
    use_inaturalist(config, numbers["inaturalist"])
    config.seed = numbers["seed"]
    if numbers["published"]:
        as_the_published_code(config)
    if variant:
        use_variant(config, variant)
        use_few_labels(config, numbers["labels"], numbers["seed"])
        config.task.teacher = "runs/mae/model"
        config.task.layers = None
    return config
