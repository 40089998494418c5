"""Linear probe: the pre-trained network stays as it is, only a head on it learns.

    python -m vit_jax_xfer.main --config=configs/linear_probe.py:digits,labels=5 \\
        --workdir=runs/probe --config.init_from=runs/mae/model

Full size: ViT-L/16 on ImageNet, 90 epochs. The published probes use LARS and a batch norm before
the head; this one is a plain AdamW on averaged patch tokens behind a trained norm. Not run here.
Variants: digits, fashion, cifar10; labels=N a class (0 = all), seed=N.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.variants import parse_arg, use_few_labels, use_variant


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a small variant with its numbers, "" for ImageNet."""
    variant, numbers = parse_arg(arg, labels=5, seed=0)
    config = default_config(
        "classification", "vit_large_patch16", settings={}, pool="avg", dtype="bfloat16"
    )
    config.init_from = "mae_pretrain_vit_large.pth"
    config.epochs, config.batch_size = 90.0, 4096
    config.optim.lr, config.optim.lr_for_batch = 1e-4, 256
    config.optim.weight_decay = 0.0
    config.optim.warmup_epochs = 10.0
    config.eval.every = 5000
    if variant:
        use_variant(config, variant)
        use_few_labels(config, **numbers)
        config.init_from = "runs/mae/model"
        config.optim.lr, config.optim.weight_decay = 1e-2, 0.0
    config.optim.lr_rules = (("head(_norm)?/.*", 1.0), (".*", 0.0))
    return config
