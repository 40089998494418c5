"""Attention distillation from a teacher that was fine-tuned first, not only pre-trained.

    python -m vit_jax_xfer.main --config=configs/finetuned_teacher.py:digits,labels=5 \\
        --workdir=runs/finetuned_teacher --config.task.teacher=runs/finetune/model

Full size: ViT-L/16 on ImageNet as attention_distill.py, with MAE's fine-tuned file. Not run here.
Variants: digits, fashion, cifar10; labels=N a class (0 = all), seed=N, unlabeled=1.
"""

from importlib import util
from pathlib import Path

from ml_collections import ConfigDict


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: as attention_distill.py."""
    # Config files are no package: they are loaded by path, and so is this one's base.
    spec = util.spec_from_file_location("base", Path(__file__).with_name("attention_distill.py"))
    base = util.module_from_spec(spec)
    spec.loader.exec_module(base)
    config = base.get_config(arg)
    small = config.task.teacher == "runs/mae/model"
    config.task.teacher = "runs/finetune/model" if small else "mae_finetuned_vit_large.pth"
    return config
