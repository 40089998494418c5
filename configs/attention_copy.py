"""Attention copy: the student computes with its teacher's attention maps (2411.09702).

    python -m vit_jax_xfer.main --config=configs/attention_copy.py:digits,labels=5 \\
        --workdir=runs/copy --config.task.teacher=runs/mae/model

Full size: ViT-L/16 on ImageNet, the published command (100 epochs of batch 2048, layer decay 0.75,
no drop path; the paper reports 85.1). The published code copies 21 of the 24 layers whatever it is
asked for; this copies all (docs/attention_transfer.md). RandAugment, random erasing, mixup and
CutMix in groups of 32 images, as published. Not run here.
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
    if variant:
        use_variant(config, variant)
        use_few_labels(config, **numbers)
        config.task.teacher = "runs/mae/model"
    return config
