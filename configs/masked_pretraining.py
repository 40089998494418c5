"""Masked pre-training: a teacher from your own images, without a label (MAE, 2111.06377).

    python -m vit_jax_xfer.main --config=configs/masked_pretraining.py:digits --workdir=runs/mae

Full size: MAE's command (PRETRAIN.md) on ImageNet, batches of 4,096, with ViT-L/16 or, as its
argument, base (ViT-B/16) or huge (ViT-H/14). epochs=800 (the default) takes about 42 h on 64 V100
and reaches 85.5 after fine-tuning ViT-L; the authors' files, from epochs=1600, fine-tune to 83.66,
85.95 and 86.93 (configs/finetune.py); epochs=400 is their third length. Not run here.
Arguments: base, large, huge, or a small variant (digits, fashion, cifar10; docs/results.md has
their figures); epochs=N, seed=N.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.recipes import pretrain_masked
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_variant

SIZES = {"base": "patch16", "large": "patch16", "huge": "patch14"}


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a size or a small variant, with its numbers."""
    only = {"epochs": ("", *SIZES)}
    name, numbers = parse_arg(arg, (*SIZES, *VARIANTS), only, epochs=800, seed=0)
    size = name if name in SIZES else "large"
    model = f"mae_vit_{size}_{SIZES[size]}"
    config = default_config("masked_pretraining", model, settings={}, dtype="bfloat16")
    pretrain_masked(config, epochs=float(numbers["epochs"]))
    config.seed = numbers["seed"]
    config.checkpoint.best_metric = ""
    config.checkpoint.every = 5000
    if name in VARIANTS:
        use_variant(config, name)
        config.optim.decay_rules = ()
        config.epochs, config.steps, config.batch_size = None, 1500, 256
        config.optim.lr, config.optim.lr_for_batch = 1.5e-3, 0
        config.optim.warmup_epochs, config.optim.warmup_steps = None, 100
        config.model.dtype = None
        config.checkpoint.every = 500
    return config
