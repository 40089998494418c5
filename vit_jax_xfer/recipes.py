"""The published ImageNet recipes that several configs share. Sources: each function's docstring."""

from ml_collections import ConfigDict


def augment_strongly(config: ConfigDict, mixed: int, erasing: bool) -> None:
    """Images as MAE's authors train with labels (2111.06377), by timm's rules.

    RandAugment, mixup 0.8 or CutMix 1.0 at even chances, labels smoothed by 0.1, and random erasing
    at a chance of 0.25 where `erasing` says so. mixed: images that share a draw of the mixing, on
    each GPU of the published run.
    """
    erased = "|random_erasing(0.25)" if erasing else ""
    config.data.pipeline = (
        f'random_resized_crop(224)|flip|rand_augment("rand-m9-mstd0.5-inc1")|normalize{erased}'
    )
    config.mix.mixup, config.mix.cutmix = 0.8, 1.0
    config.mix.group, config.mix.boxes = mixed, "timm_0_3_2"
    config.task.label_smoothing = 0.1


def train_from_scratch(
    config: ConfigDict, epochs: float, batch_size: int, mixed: int, erasing: bool
) -> None:
    """AdamW as MAE's authors train ViTs from scratch (2111.06377), and 2411.09702 distils.

    Base learning rate 1e-4 for 256 images, decay 0.3, β₂ 0.95, 20 epochs of warm-up, EMA 0.9999.
    MAE's has no random erasing; 2411.09702's command has.
    """
    augment_strongly(config, mixed, erasing)
    config.epochs, config.batch_size = epochs, batch_size
    config.optim.lr, config.optim.lr_for_batch, config.optim.end_lr = 1e-4, 256, 1e-6
    config.optim.b2, config.optim.weight_decay = 0.95, 0.3
    config.optim.warmup_epochs = 20.0
    config.optim.ema = 0.9999
    config.eval.every = 5000


def fine_tune(config: ConfigDict, epochs: float, batch_size: int) -> None:
    """AdamW as MAE's authors fine-tune ViT-L (2111.06377), and 2411.09702 copies.

    Base learning rate 1e-3 for 256 images, layer decay 0.75, decay 0.05, 5 epochs of warm-up, and
    images that are mixed in groups of 32, as on each of the published runs' GPUs.
    """
    augment_strongly(config, mixed=32, erasing=True)
    config.epochs, config.batch_size = epochs, batch_size
    config.optim.lr, config.optim.lr_for_batch, config.optim.end_lr = 1e-3, 256, 1e-6
    config.optim.layer_decay, config.optim.weight_decay = 0.75, 0.05
    config.optim.warmup_epochs = 5.0
    config.eval.every = 5000


def train_filter_vit(config: ConfigDict) -> None:
    """AdamW as FilterViT's authors train on ImageNet-100 (2410.22709): 120 epochs of batches of 64.

    Learning rate 5e-4 to 1e-5 along a cosine after one epoch of warm-up, decay 0.01 of every
    parameter, images in [-1, 1], TrivialAugment. Theirs moves the rate once an epoch, and here it
    moves with every step.
    """
    config.epochs, config.batch_size = 120.0, 64
    config.optim.lr, config.optim.end_lr, config.optim.weight_decay = 5e-4, 1e-5, 0.01
    config.optim.decay_rules = ((".*", True),)
    config.optim.warmup_epochs = 1.0
    config.data.pipeline = (
        'random_resized_crop(224, interpolation="bilinear")|flip|trivial_augment()'
        "|normalize(0.5, 0.5)"
    )
    config.eval.pipeline = 'resize(256, "bilinear")|center_crop(224)|normalize(0.5, 0.5)'
    config.eval.batch_size, config.eval.every = 256, 2000


def train_lift(config: ConfigDict) -> None:
    """Adam as LiFT's authors train it (2403.14625) for patch 16: 5 epochs of batches of 256.

    A constant learning rate of 1e-3, no decay, images squashed to 448 pixels, colours jittered.
    """
    config.epochs, config.batch_size = 5.0, 256
    config.optim.lr, config.optim.end_lr, config.optim.weight_decay = 1e-3, 1e-3, 0.0
    config.data.pipeline = (
        'resize((448, 448), "bilinear")|color_jitter(0.2, 0.2, 0.2, 0.2)|normalize'
    )
    config.eval.pipeline = 'resize((448, 448), "bilinear")|normalize'
    config.checkpoint.best_metric, config.eval.every = "cosine", 1000
