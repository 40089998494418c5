"""Fine-tuning: the student starts from the pre-trained weights. What transfer should reach.

    python -m vit_jax_xfer.main --config=configs/finetune.py:digits,labels=5 \\
        --workdir=runs/finetune --config.init_from=runs/mae/model

Full size: MAE's commands (FINETUNE.md) on ImageNet, batches of 1,024, with RandAugment, random
erasing, mixup and CutMix. large (the default): ViT-L/16, 50 epochs, layer decay 0.75; MAE's files
reach 85.95 (85.87 ± 0.07 over four seeds, 8 h 52 min on 32 V100), 2411.09702 has 85.7. base:
ViT-B/16, 100 epochs at half the rate, layer decay 0.65: 83.66 (83.57 ± 0.08, 7 h 11 min). huge:
ViT-H/14, 50 epochs, mixed in groups of 16: 86.93 (13 h on 64 V100). Not run here.
inaturalist=2018 (2017, 2019, 2021) does the same on that set, `--config.data.source=` its folder:
MAE's README has 70.5, 75.7, 79.3 for ViT-B, -L, -H on 2017, 75.4, 80.1, 83.0 on 2018 and 80.5,
83.4, 85.7 on 2019, by rates and epochs that it doesn't say; those here are ImageNet's.
Arguments: base, large, huge, or a small variant (digits, fashion, cifar10); labels=N a class
(0 = all), seed=N, inaturalist=YEAR.
Your own images: folder,path=IMAGES; docs/recipes.md has what goes with it.
"""

from ml_collections import ConfigDict

from vit_jax_xfer.config import default_config
from vit_jax_xfer.experiments.own_images import takes_own_images
from vit_jax_xfer.experiments.recipes import fine_tune, use_inaturalist
from vit_jax_xfer.experiments.variants import VARIANTS, parse_arg, use_few_labels, use_variant

# Model, stochastic depth, epochs, and what else `fine_tune` takes.
SIZES = {
    "base": ("vit_base_patch16", 0.1, 100.0, {"lr": 5e-4, "layer_decay": 0.65}),
    "large": ("vit_large_patch16", 0.2, 50.0, {}),
    "huge": ("vit_huge_patch14", 0.3, 50.0, {"mixed": 16}),
}


@takes_own_images()
def get_config(arg: str | None = None) -> ConfigDict:
    """`arg`: a size or a small variant, with its numbers."""
    only = {"labels": VARIANTS, "inaturalist": ("", *SIZES)}
    name, numbers = parse_arg(arg, (*SIZES, *VARIANTS), only, labels=5, seed=0, inaturalist=0)
    size = name if name in SIZES else "large"
    model, drop_path, epochs, more = SIZES[size]
    config = default_config(
        "classification",
        model,
        settings={},
        pool="avg",
        drop_path=drop_path,
        dtype="bfloat16",
        head_init_std=2e-5,
    )
    config.init_from = f"mae_pretrain_vit_{size}.pth"
    fine_tune(config, epochs=epochs, batch_size=1024, **more)
    use_inaturalist(config, numbers["inaturalist"])
    config.seed = numbers["seed"]
    if name in VARIANTS:
        use_variant(config, name)
        use_few_labels(config, numbers["labels"], numbers["seed"])
        config.init_from = "runs/mae/model"
    return config
