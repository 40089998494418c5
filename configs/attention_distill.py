"""Attention distillation: the student learns attention maps like its teacher's (2411.09702).

    python -m vit_jax_xfer.main --config=configs/attention_distill.py:digits,labels=5 \\
        --workdir=runs/distill --config.task.teacher=runs/mae/model

Full size: ViT-L/16 on ImageNet, the published command (200 epochs of batch 2048, λ = 3, drop path
0.2 shared with the teacher; the paper reports 85.7, on TPUs). RandAugment, random erasing, mixup
and CutMix in groups of 32 images, as published. The teacher's maps come of its network under the
student's drop path, as published (`task.share_drop_path`; a whole teacher is False).
published=1 takes what the published code does of itself: `task.layers` the first 21 of 24, where
its command asks for the first 18 (which are taken here), and float32 (here bfloat16).
docs/attention_transfer.md has the list. Not run here.
inaturalist=2018 (2017, 2019, 2021) does the same on that set, `--config.data.source=` its folder:
2411.09702 measures these, and its settings for them were not found; those here are ImageNet's.
Variants: digits, fashion, cifar10; labels=N a class (0 = all), seed=N, published=1,
inaturalist=YEAR, unlabeled=1 to distil from the images without labels too.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.recipes import (
    as_the_published_code,
    train_from_scratch,
    use_inaturalist,
)
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_few_labels, use_variant


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a small variant with its numbers, "" for ImageNet."""
    only = dict.fromkeys(("labels", "unlabeled"), VARIANTS)
    only |= dict.fromkeys(("published", "inaturalist"), ("",))
    numbers = {"labels": 5, "seed": 0, "unlabeled": 0, "published": 0, "inaturalist": 0}
    variant, numbers = parse_arg(arg, only=only, **numbers)
    config = default_config(
        "attention_transfer",
        "vit_large_patch16",
        settings={
            "mode": "distill",
            "teacher": "mae_pretrain_vit_large.pth",
            "weight": 3.0,
            "layers": tuple(range(18)),
            "share_drop_path": True,
        },
        pool="avg",
        drop_path=0.2,
        dtype="bfloat16",
    )
    train_from_scratch(config, epochs=200.0, batch_size=2048, mixed=32, erasing=True)
    use_inaturalist(config, numbers["inaturalist"])
    config.seed = numbers["seed"]
    if numbers["published"]:
        as_the_published_code(config)
    if variant:
        use_variant(config, variant)
        use_few_labels(config, numbers["labels"], numbers["seed"], numbers["unlabeled"])
        config.task.teacher = "runs/mae/model"
        config.task.layers = None
        config.task.share_drop_path = False
    return config
