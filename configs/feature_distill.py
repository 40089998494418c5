"""Feature distillation: the student's residual stream follows its teacher's, block by block.

    python -m vit_jax_xfer.main --config=configs/feature_distill.py:digits,labels=5 \\
        --workdir=runs/feature_distill --config.task.teacher=runs/mae/model

What attention transfer is set against in 2411.09702, where it ends below scratch (81.3). Full size:
ViT-L/16 on ImageNet with the schedule of attention_distill.py. Not run here.
Variants: digits, fashion, cifar10; labels=N a class (0 = all), seed=N, unlabeled=1.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.recipes import train_from_scratch
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_few_labels, use_variant


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a small variant with its numbers, "" for ImageNet."""
    only = dict.fromkeys(("labels", "unlabeled"), VARIANTS)
    variant, numbers = parse_arg(arg, only=only, labels=5, seed=0, unlabeled=0)
    config = default_config(
        "feature_distillation",
        "vit_large_patch16",
        settings={"teacher": "mae_pretrain_vit_large.pth"},
        pool="avg",
        drop_path=0.2,
        dtype="bfloat16",
    )
    train_from_scratch(config, epochs=200.0, batch_size=2048, mixed=32, erasing=True)
    config.seed = numbers["seed"]
    if variant:
        use_variant(config, variant)
        use_few_labels(config, **numbers)
        config.task.teacher = "runs/mae/model"
    return config
