"""Choice transfer: a FilterViT learns from a vision transformer which pixels to keep.

    python -m vit_jax_xfer.main --config=choice_transfer:folder,path=IMAGES,size=112 \
        --workdir=runs/guided --config.task.teacher=hf:facebook/dinov2-small

This project's own: the teacher's class token, whose attention the student has no place for, says
which pixels become tokens. `--config.task.mode=copy` keeps those that it looks at most.
Full size: the published FilterViT and recipe (2410.22709) on 100 classes of ImageNet, subset 1 to
5, 120 epochs at 224 pixels; subset=0 on all of it, 250 epochs at 256. Not run here.
Small variants: digits, fashion, cifar10, whose teacher is configs/masked_pretraining.py's.
Arguments: xxs, xs (the default), s, s2, or a small variant; subset=N, labels=N a class (0 = all),
seed=N.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.experiments.filter_recipes import filter_config
from vit_jax_xfer.experiments.own_images import takes_own_images

SIZES = ("xxs", "xs", "s", "s2")


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a size or a small variant, with its numbers."""
    return filter_config(arg, "filter_vit", SIZES, "choice_transfer")
