"""Attention distillation from a teacher that was fine-tuned first, not only pre-trained.

    python -m vit_jax_xfer.main --config=configs/finetuned_teacher.py:digits,labels=5 \\
        --workdir=runs/finetuned_teacher --config.task.teacher=runs/finetune/model

Full size: ViT-L/16 on ImageNet as attention_distill.py, with MAE's fine-tuned file. Not run here.
Variants: digits, fashion, cifar10; labels=N a class (0 = all), seed=N, unlabeled=1.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from importlib import util
from pathlib import Path

from ml_collections import ConfigDict

# In place of the teachers that are only pre-trained.
FINE_TUNED = {
    "runs/mae/model": "runs/finetune/model",
    "mae_pretrain_vit_large.pth": "mae_finetuned_vit_large.pth",
}


def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: as attention_distill.py."""
    # Config files are no package: they are loaded by path, and so is this one's base.
    spec = util.spec_from_file_location("base", Path(__file__).with_name("attention_distill.py"))
    base = util.module_from_spec(spec)
    spec.loader.exec_module(base)
    config = base.get_config(arg)
    config.task.teacher = FINE_TUNED.get(config.task.teacher, config.task.teacher)
    return config
