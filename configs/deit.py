"""DeiT: a plain ViT trained on ImageNet alone, with strong augmentation (2012.12877).

    python -m vit_jax_xfer.main --config=configs/deit.py:small --workdir=runs/deit \\
        --config.data.source=folder:/data/imagenet

Full size: the published commands (README_deit.md) for tiny, small and base (the default), 300
epochs of batches of 1,024 in which each image is three times; their README has 72.2, 79.9 and 81.8
top-1. The images that are mixed among themselves are those of one of the published GPUs: 256 for
tiny and small (4 GPUs), 64 for base (16). base384 goes on from a trained base for 30 epochs at 384
pixels (82.9 there), `--config.init_from=` a run's model or their file. Not run here.
Arguments: tiny, small, base, base384, or a small variant (digits, fashion, cifar10), on which it is
scratch.py's network and training; labels=N a class (0 = all), seed=N.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.recipes import train_deit
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_few_labels, use_variant

SIZES = ("tiny", "small", "base", "base384")


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a size or a small variant, with its numbers."""
    only = {"labels": VARIANTS}
    name, numbers = parse_arg(arg, (*SIZES, *VARIANTS), only, labels=5, seed=0)
    size = "base" if name in ("", "base384", *VARIANTS) else name
    model = f"deit_{size}_patch16"
    config = default_config("classification", model, settings={}, dtype="bfloat16")
    train_deit(config, mixed=64 if size == "base" else 256)
    if name == "base384":
        _go_on_at_384(config)
    if name in VARIANTS:
        use_variant(config, name)
        use_few_labels(config, **numbers)
    config.seed = numbers["seed"]
    return config


def _go_on_at_384(config: ConfigDict) -> None:
    """The published fine-tuning: the rate ends where it starts, after the warm-up."""
    config.init_from = "deit_base_patch16_224-b5f2ef4d.pth"
    config.epochs, config.batch_size, config.mix.group = 30.0, 512, 32
    config.optim.lr, config.optim.end_lr, config.optim.weight_decay = 5e-6, 5e-6, 1e-8
    config.data.pipeline = config.data.pipeline.replace("224", "384")
    # Theirs resizes by 256/224 at every size.
    config.eval.pipeline = "resize(438)|center_crop(384)|normalize"
