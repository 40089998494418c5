"""DropoutViT: FilterViT's twin, in which random pixels become tokens.

    python -m vit_jax_xfer.main --config=configs/dropout_vit.py:xs,subset=1 --workdir=runs/dropout \
        --config.data.source=folder:/data/imagenet

Full size: the published network and recipe (2410.22709) on 100 classes of ImageNet, subset 1 to 5,
120 epochs at 224 pixels; subset=0 is their training on all 1,000 classes, 250 epochs at 256. Its
authors show no log of it. Not run here.
Small variants: digits, fashion, cifar10, on a network of this project's own, 1,000 steps of 64 with
all labels; docs/results.md has what they reach.
Arguments: xs (the default), or a small variant; subset=N, labels=N a class (0 = all), seed=N.
`--config.model.shared_draw=True --config.model.random_evaluation=True` draws as the published code
does: once for a whole batch, at evaluation too.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.experiments.filter_recipes import filter_config
from vit_jax_xfer.experiments.own_images import takes_own_images

SIZES = ("xs",)


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a size or a small variant, with its numbers."""
    return filter_config(arg, "dropout_vit", SIZES)
