"""From scratch: the student that gets no help, against which all others are measured.

    python -m vit_jax_xfer.main --config=configs/scratch.py:digits,labels=5 --workdir=runs/scratch

Full form: ViT-L/16 on ImageNet, the scratch recipe of MAE's authors (batch 4096, 300 epochs; their
ViT-L reaches 82.6, that of 2411.09702 reaches 83.0). Mixup, CutMix and RandAugment, which belong to
it, are not in this project yet, so the full form will stay below. Not run here.
Forms: digits, fashion, cifar10; labels=N a class (0 = all), seed=N.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.forms import parse_arg, use_few_labels, use_form


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a small form with its numbers, "" for ImageNet."""
    form, numbers = parse_arg(arg, labels=5, seed=0)
    config = default_config(
        "classification",
        "vit_large_patch16",
        settings={"label_smoothing": 0.1},
        pool="avg",
        drop_path=0.2,
        dtype="bfloat16",
    )
    config.epochs, config.batch_size = 300.0, 4096
    config.optim.lr, config.optim.lr_for_batch = 1e-4, 256
    config.optim.end_lr = 1e-6
    config.optim.b2 = 0.95
    config.optim.weight_decay = 0.3
    config.optim.warmup_epochs = 20.0
    config.optim.ema = 0.9999
    config.eval.every = 5000
    if form:
        use_form(config, form)
        use_few_labels(config, **numbers)
    return config
