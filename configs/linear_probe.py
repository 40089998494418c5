"""Linear probe: the pre-trained network stays as it is, only a head on it learns.

    python -m vit_jax_xfer.main --config=configs/linear_probe.py:digits,labels=5 \\
        --workdir=runs/probe --config.init_from=runs/mae/model

Full size: MAE's probe (2111.06377; FINETUNE.md) on ImageNet: LARS, batches of 16,384, a batch norm
without scale or bias before the head. base, ViT-B/16: 90 epochs, 67.8 top-1 (2 h 20 min on 32
V100). large (the default) and huge: 50 epochs, which the authors find enough, 76.0 and 77.2. Batch
statistics are the whole batch's, where the published are those of each GPU's 512 images. Not run
here.
adamw is another probe, a plain one for a few images: AdamW on averaged patch tokens of a ViT-L/16
behind a norm that learns too. The small variants (digits, fashion, cifar10) are of it.
Arguments: base, large, huge, adamw, or a small variant; labels=N a class (0 = all), seed=N.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.recipes import probe
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_few_labels, use_variant

SIZES = {"base": ("patch16", 90.0), "large": ("patch16", 50.0), "huge": ("patch14", 50.0)}


@takes_own_images("adamw")
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a size or a small variant, with its numbers."""
    only = {"labels": VARIANTS}
    name, numbers = parse_arg(arg, (*SIZES, "adamw", *VARIANTS), only, labels=5, seed=0)
    size = name if name in SIZES else "large"
    patch, epochs = SIZES[size]
    model = f"vit_{size}_{patch}"
    config = default_config("classification", model, settings={}, dtype="bfloat16")
    config.init_from = f"mae_pretrain_vit_{size}.pth"
    config.seed = numbers["seed"]
    if name in ("", *SIZES):
        probe(config, epochs)
        return config
    config.model.pool = "avg"
    config.epochs, config.batch_size = 90.0, 4096
    config.optim.lr, config.optim.lr_for_batch, config.optim.warmup_epochs = 1e-4, 256, 10.0
    if name in VARIANTS:
        use_variant(config, name)
        use_few_labels(config, **numbers)
        config.init_from = "runs/mae/model"
        config.optim.lr = 1e-2
    config.optim.weight_decay = 0.0
    config.optim.lr_rules = (("head(_norm)?/.*", 1.0), (".*", 0.0))
    return config
