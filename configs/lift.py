"""LiFT: a small network that doubles the resolution of a frozen backbone's features.

    python -m vit_jax_xfer.main --config=configs/lift.py --workdir=runs/lift \
        --config.task.backbone=runs/mae/model --config.data.source=folder:/data/images

Full size: the published recipe (2403.14625), 5 epochs of ImageNet on the keys of the last block.
Not run here. Any backbone that load_pretrained reads will do, and any folder of images without
labels. Small variants: digits, fashion, cifar10, for a backbone of configs/masked_pretraining.py
in the same variant. docs/lift.md has what it reaches on a thousand photographs, and the options.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.recipes import train_lift
from vit_jax_xfer.experiments.variants import parse_arg, use_upsampling_variant


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a small variant, "" for ImageNet."""
    variant, numbers = parse_arg(arg, seed=0)
    config = default_config("feature_upsampling", "lift", settings={})
    train_lift(config)
    config.seed = numbers["seed"]
    if variant:
        use_upsampling_variant(config, variant)
    return config
