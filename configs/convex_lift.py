"""LiFT's successor: features doubled as attention-weighted averages of the backbone's own.

    python -m vit_jax_xfer.main --config=configs/convex_lift.py --workdir=runs/convex_lift \
        --config.task.backbone=runs/mae/model --config.data.source=folder:/data/images

Trained as LiFT is (configs/lift.py), but on images that are shrunk without aliasing, and with the
doubling that follows a doubling in the loss, as UPLiFT does it (2601.17950). Not run here on
ImageNet. Small variants: digits, fashion, cifar10. docs/lift.md has what it reaches on a thousand
photographs.
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
    settings = {"shrink": "resize", "depths": 2}
    config = default_config("feature_upsampling", "convex_lift", settings=settings)
    train_lift(config)
    config.seed = numbers["seed"]
    if variant:
        use_upsampling_variant(config, variant)
    return config
