"""DeiT III: a plain ViT with LayerScale, LAMB, a binary loss and three augmentations (2204.07118).

    python -m vit_jax_xfer.main --config=configs/deit3.py:base --workdir=runs/deit3 \\
        --config.data.source=folder:/data/imagenet
    python -m vit_jax_xfer.main --config=configs/deit3.py:base224 --workdir=runs/deit3_224 \\
        --config.data.source=folder:/data/imagenet --config.init_from=runs/deit3/model

Full size: the published commands (README_revenge.md) on ImageNet-1k, 800 epochs of batches of
2,048: small at 224 pixels, base (the default) and large at 192, huge at 160. base224, large224,
huge224 and small384 are their 20 epochs at that size, started from the former; their README has
81.4 (small, 224), 83.4 (small384), 83.8, 84.9 and 85.2 top-1. The images that are mixed among
themselves are those of one of the published GPUs. Those commands have a weight decay of 0.05 and
the paper's table 0.02 (`--config.optim.weight_decay=0.02`); their stochastic depth is for 800
epochs (`--config.model.drop_path=` sets another). Not run here.
Arguments: a size, or a small variant (digits, fashion, cifar10), on which it is scratch.py's
training with LayerScale; epochs=N (800), src=1 for the simple random crop, which the authors use
with ImageNet-21k; labels=N a class (0 = all), seed=N.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.recipes import fine_tune_deit3, train_deit3
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_few_labels, use_variant


class Command(NamedTuple):
    """What the published commands of a size differ in; mixed: images on each GPU."""

    model: str
    pixels: int
    mixed: int
    drop_path: float
    lr: float = 3e-3
    start: str = ""


COMMANDS = {
    "small": Command("small_patch16", 224, 256, 0.05, lr=4e-3),
    "base": Command("base_patch16", 192, 256, 0.2),
    "large": Command("large_patch16", 192, 64, 0.45),
    "huge": Command("huge_patch14", 160, 64, 0.6),
    "small384": Command("small_patch16", 384, 64, 0.0, start="runs/deit3_small/model"),
    "base224": Command("base_patch16", 224, 64, 0.2, start="runs/deit3/model"),
    "large224": Command("large_patch16", 224, 64, 0.45, start="runs/deit3_large/model"),
    "huge224": Command("huge_patch14", 224, 32, 0.55, start="runs/deit3_huge/model"),
}


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a size or a small variant, with its numbers."""
    names = (*COMMANDS, *VARIANTS)
    trained = ("", *(size for size, command in COMMANDS.items() if not command.start))
    only = {"labels": VARIANTS, "epochs": trained, "src": trained}
    name, numbers = parse_arg(arg, names, only, epochs=800, src=0, labels=5, seed=0)
    epochs, simple = numbers.pop("epochs"), numbers.pop("src")
    command = COMMANDS.get(name, COMMANDS["base"])
    # Pixels beyond whole patches, huge's 6 of 160, are left out, as PyTorch's convolution does.
    patch = int(command.model.partition("_patch")[2])
    left_out = {"drop_remainder": True} if command.pixels % patch else {}
    config = default_config(
        "classification",
        f"deit3_{command.model}",
        settings={},
        drop_path=command.drop_path,
        dtype="bfloat16",
        **left_out,
    )
    config.seed = numbers["seed"]
    if command.start:
        fine_tune_deit3(config, command.pixels, command.mixed)
        config.init_from = command.start
        return config
    train_deit3(config, command.pixels, command.mixed, simple_crop=bool(simple))
    config.optim.lr, config.epochs = command.lr, float(epochs)
    if name in VARIANTS:
        use_variant(config, name)
        use_few_labels(config, **numbers)
        config.model.layer_scale, config.model.class_position = 1e-6, False
    return config
