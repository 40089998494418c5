"""An ensemble: the averaged probabilities of finished models, evaluated on the test images.

    python -m vit_jax_xfer.main --config=configs/ensemble.py:digits --workdir=runs/ensemble \\
        --config.task.members="('runs/distill', 'runs/finetune')"

2411.09702 reaches 86.3 with a distilled ViT-L and its fine-tuned teacher. Members are work folders
of runs (a copying student brings its teacher along) or files of weights.
Variants: digits, fashion, cifar10.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_data


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a small variant, "" for ImageNet."""
    variant, _ = parse_arg(arg)
    config = default_config(
        "ensemble",
        "",  # its networks are its members'
        settings={"members": ("runs/distill", "runs/finetune")},
    )
    if variant:
        use_data(config, VARIANTS[variant])
    config.batch_size = 256
    return config
