"""From scratch: the student that gets no help, against which all others are measured.

    python -m vit_jax_xfer.main --config=configs/scratch.py:digits,labels=5 --workdir=runs/scratch

Full size: ViT-L/16 on ImageNet, the scratch recipe of MAE's authors (batch 4096, 300 epochs; their
ViT-L reaches 82.6, that of 2411.09702 reaches 83.0), with RandAugment, mixup and CutMix, the latter
two in groups of 64 images. Not run here.
Variants: digits, fashion, cifar10; labels=N a class (0 = all), seed=N.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.recipes import train_from_scratch
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
    )
    train_from_scratch(config, epochs=300.0, batch_size=4096, mixed=64, erasing=False)
    if variant:
        use_variant(config, variant)
        use_few_labels(config, **numbers)
    return config
