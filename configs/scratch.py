"""From scratch: the student that gets no help, against which all others are measured.

    python -m vit_jax_xfer.main --config=configs/scratch.py:digits,labels=5 --workdir=runs/scratch

Full size: ViT-L/16 on ImageNet, the scratch recipe of MAE's authors (batch 4096, 300 epochs; their
ViT-L reaches 82.6, that of 2411.09702 reaches 83.0), with RandAugment, mixup and CutMix, the latter
two in groups of 64 images. base: ViT-B/16, stochastic depth 0.1 (82.3 in MAE's paper; 81.9 and 82.0
in its issue 41). Not run here.
inaturalist=2018 (2017, 2019, 2021) does the same on that set, `--config.data.source=` its folder.
Arguments: base, large (the default), or a small variant (digits, fashion, cifar10); labels=N a
class (0 = all), seed=N, inaturalist=YEAR.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.recipes import train_from_scratch, use_inaturalist
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_few_labels, use_variant

SIZES = {"base": 0.1, "large": 0.2}  # stochastic depth


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a size or a small variant, with its numbers."""
    only = {"labels": VARIANTS, "inaturalist": ("", *SIZES)}
    name, numbers = parse_arg(arg, (*SIZES, *VARIANTS), only, labels=5, seed=0, inaturalist=0)
    size = name if name in SIZES else "large"
    config = default_config(
        "classification",
        f"vit_{size}_patch16",
        settings={},
        pool="avg",
        drop_path=SIZES[size],
        dtype="bfloat16",
    )
    train_from_scratch(config, epochs=300.0, batch_size=4096, mixed=64, erasing=False)
    use_inaturalist(config, numbers["inaturalist"])
    config.seed = numbers["seed"]
    if name in VARIANTS:
        use_variant(config, name)
        use_few_labels(config, numbers["labels"], numbers["seed"])
    return config
