"""Masked pre-training: a teacher from your own images, without a label (MAE, 2111.06377).

    python -m vit_jax_xfer.main --config=configs/masked_pretraining.py:digits --workdir=runs/mae

Full size: ViT-L/16 on ImageNet, 800 epochs of batch 4096, MAE's own schedule. Not run here.
Variants: digits, fashion, cifar10 (docs/results.md has their figures).
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.variants import parse_arg, use_variant


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a small variant, "" for ImageNet."""
    variant, _ = parse_arg(arg)
    config = default_config("masked_pretraining", "mae_vit_large_patch16", settings={})
    config.epochs, config.batch_size = 800.0, 4096
    config.data.pipeline = "random_resized_crop(224, area=(0.2, 1.0))|flip|normalize"
    config.optim.lr, config.optim.lr_for_batch = 1.5e-4, 256
    config.optim.b2 = 0.95
    config.optim.warmup_epochs = 40.0
    config.model.dtype = "bfloat16"
    config.checkpoint.best_metric = ""
    config.checkpoint.every = 5000
    if variant:
        use_variant(config, variant)
        config.epochs, config.steps, config.batch_size = None, 1500, 256
        config.optim.lr, config.optim.lr_for_batch = 1.5e-3, 0
        config.optim.warmup_epochs, config.optim.warmup_steps = None, 100
        config.model.dtype = None
        config.checkpoint.every = 500
    return config
