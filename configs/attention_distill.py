"""Attention distillation: the student learns attention maps like its teacher's (2411.09702).

    python -m vit_jax_xfer.main --config=configs/attention_distill.py:digits,labels=5 \\
        --workdir=runs/distill --config.task.teacher=runs/mae/model

Full form: ViT-L/16 on ImageNet, the published command (200 epochs of batch 2048, λ = 3, drop path
0.2 shared with the teacher; the paper reports 85.7). The published command asks for the first 18
layers and its code takes 21; this takes the 18 (docs/attention_transfer.md). Mixup, CutMix and
RandAugment are not in this project yet. Not run here.
Forms: digits, fashion, cifar10; labels=N a class (0 = all), seed=N, unlabeled=1 to distil from the
images without labels too.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.forms import parse_arg, use_few_labels, use_form, use_unlabeled


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a small form with its numbers, "" for ImageNet."""
    form, numbers = parse_arg(arg, labels=5, seed=0, unlabeled=0)
    config = default_config(
        "attention_transfer",
        "vit_large_patch16",
        settings={
            "mode": "distill",
            "teacher": "mae_pretrain_vit_large.pth",
            "weight": 3.0,
            "layers": tuple(range(18)),
            "label_smoothing": 0.1,
            "share_drop_path": True,
        },
        pool="avg",
        drop_path=0.2,
        dtype="bfloat16",
    )
    config.epochs, config.batch_size = 200.0, 2048
    config.optim.lr, config.optim.lr_for_batch = 1e-4, 256
    config.optim.end_lr = 1e-6
    config.optim.b2 = 0.95
    config.optim.weight_decay = 0.3
    config.optim.warmup_epochs = 20.0
    config.optim.ema = 0.9999
    config.eval.every = 5000
    unlabeled = numbers.pop("unlabeled")
    if form:
        use_form(config, form)
        use_few_labels(config, **numbers)
        if unlabeled:
            use_unlabeled(config)
        config.task.teacher = "runs/mae/model"
        config.task.layers = None
        config.task.share_drop_path = False
    return config
