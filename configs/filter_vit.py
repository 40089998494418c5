"""FilterViT: a small network scores the pixels of a map, and only the best become tokens.

    python -m vit_jax_xfer.main --config=configs/filter_vit.py:xs,subset=1 --workdir=runs/filter \
        --config.data.source=folder:/data/imagenet

Full size: the published network and recipe (2410.22709) on 100 classes of ImageNet, subset 1 to 5,
120 epochs at 224 pixels; the authors' own log of xs on subset 1 ends at 86.1 top-1. subset=0 is
their training on all 1,000 classes (my_train.py): 250 epochs at 256 pixels, of which the cosine
takes the first 100. Not run here.
Small variants: digits, fashion, cifar10, on a network of this project's own, 1,000 steps of 64 with
all labels; docs/results.md has what they reach.
Arguments: xxs, xs (the default), s, s2, or a small variant; subset=N, labels=N a class (0 = all),
seed=N. `--config.model.keep=0.05` keeps another share of each map, and
`--config.model.attend=window` attends in another way (docs/filter_vit.md).
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.experiments.filter_recipes import filter_config
from vit_jax_xfer.experiments.own_images import takes_own_images

SIZES = ("xxs", "xs", "s", "s2")


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a size or a small variant, with its numbers."""
    return filter_config(arg, "filter_vit", SIZES)
