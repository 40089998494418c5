"""Fine-tuning: the student starts from the pre-trained weights. What transfer should reach.

    python -m vit_jax_xfer.main --config=configs/finetune.py:digits,labels=5 \\
        --workdir=runs/finetune --config.init_from=runs/mae/model

Full size: ViT-L/16 on ImageNet, MAE's fine-tuning (50 epochs, layer decay 0.75; MAE reports 85.9,
2411.09702 85.7), with RandAugment, random erasing, mixup and CutMix. Not run here.
Variants: digits, fashion, cifar10; labels=N a class (0 = all), seed=N.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.recipes import fine_tune
from vit_jax_xfer.variants import parse_arg, use_few_labels, use_variant


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a small variant with its numbers, "" for ImageNet."""
    variant, numbers = parse_arg(arg, labels=5, seed=0)
    config = default_config(
        "classification",
        "vit_large_patch16",
        settings={},
        pool="avg",
        drop_path=0.2,
        dtype="bfloat16",
        head_init_std=2e-5,
    )
    config.init_from = "mae_pretrain_vit_large.pth"
    fine_tune(config, epochs=50.0, batch_size=1024)
    if variant:
        use_variant(config, variant)
        use_few_labels(config, **numbers)
        config.init_from = "runs/mae/model"
    return config
