"""The published ImageNet recipes that several configs share. Sources: each function's docstring."""

from ml_collections import ConfigDict

from vit_jax_xfer.data.sources.inaturalist import YEARS


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


def fine_tune(
    config: ConfigDict,
    epochs: float,
    batch_size: int,
    *,
    lr: float = 1e-3,
    layer_decay: float = 0.75,
    mixed: int = 32,
) -> None:
    """AdamW as MAE's authors fine-tune (2111.06377; FINETUNE.md), and 2411.09702 copies.

    Base learning rate for 256 images, layer decay, decay 0.05, 5 epochs of warm-up, and images that
    are mixed in groups of `mixed`, as on each of the published run's GPUs. The defaults are those
    of a ViT-L.
    """
    augment_strongly(config, mixed, erasing=True)
    config.epochs, config.batch_size = epochs, batch_size
    config.optim.lr, config.optim.lr_for_batch, config.optim.end_lr = lr, 256, 1e-6
    config.optim.layer_decay, config.optim.weight_decay = layer_decay, 0.05
    config.optim.warmup_epochs = 5.0
    config.eval.every = 5000


def as_the_published_code(config: ConfigDict) -> None:
    """What the code of 2411.09702 does of itself, beside its commands (docs/attention_transfer.md).

    The first 21 of 24 layers take part, whatever is asked for; layer decay has one factor less than
    MAE's, so that the last block learns at the head's rate; float32 throughout.
    """
    config.task.layers = tuple(range(21))
    config.optim.layer_decay_to = "last_block"
    config.model.dtype = "float32"


def use_inaturalist(config: ConfigDict, year: int) -> None:
    """iNaturalist's images of a year in place of ImageNet's; everything else stays. 0 = neither.

    No recipe of its own is published: MAE takes its ImageNet settings for these sets and says that
    rate and epochs were adjusted to each (2111.06377, appendix), not to what; 2411.09702 says
    neither where this was built. So both are ImageNet's here, which is a choice: set `optim.lr` and
    `epochs` for a set of another size. ValueError for a year without a set.
    """
    if not year:
        return
    if str(year) not in YEARS:
        raise ValueError(f"config argument inaturalist={year}: expected one of {', '.join(YEARS)}")
    config.data.source = f"inaturalist{year}:/data/inaturalist{year}"
    config.eval.split = "val"


def probe(config: ConfigDict, epochs: float) -> None:
    """A linear probe as MAE's authors train it (2111.06377; FINETUNE.md, main_linprobe.py).

    LARS at a base learning rate of 0.1 for 256 images, 16,384 at once, without decay, 10 epochs of
    warm-up; crops that are drawn once, and flips. The head sees the class token behind the
    network's own norm, normalised by the batch; all but the head stands still.
    """
    config.model.pool, config.model.batch_norm, config.model.head_init_std = "cls", True, 0.01
    config.epochs, config.batch_size = epochs, 16384
    config.optim.name, config.optim.weight_decay = "lars", 0.0
    config.optim.lr, config.optim.lr_for_batch = 0.1, 256
    config.optim.warmup_epochs = 10.0
    config.optim.lr_rules = (("head/.*", 1.0), (".*", 0.0))
    config.data.pipeline = "random_resized_crop(224, once=True)|flip|normalize"


def pretrain_masked(config: ConfigDict, epochs: float) -> None:
    """Masked pre-training as MAE's authors do it (2111.06377; PRETRAIN.md): 4,096 images at once.

    AdamW at a base learning rate of 1.5e-4 for 256 images, β₂ 0.95, 40 epochs of warm-up. Their
    code spares biases and norms from decay, and neither the class nor the mask token.
    """
    config.epochs, config.batch_size = epochs, 4096
    config.data.pipeline = "random_resized_crop(224, area=(0.2, 1.0))|flip|normalize"
    config.optim.lr, config.optim.lr_for_batch = 1.5e-4, 256
    config.optim.b2 = 0.95
    config.optim.decay_rules = ((".*(cls|mask)_token", True),)
    config.optim.warmup_epochs = 40.0


def step_as_timm(config: ConfigDict) -> None:
    """timm 0.3.2's cosine, by DeiT's defaults: 5 epochs of warm-up from 1e-6, down to 1e-5.

    The rate moves once an epoch, and the cosine is counted from the first one, under the warm-up.
    Their code steps the schedule after an epoch with that epoch's number, so that all comes an
    epoch late; `optim.moves="epoch"` has it in time.
    """
    config.optim.warmup_epochs, config.optim.warmup_from, config.optim.end_lr = 5.0, 1e-6, 1e-5
    config.optim.cosine_from, config.optim.moves = "start", "epoch_late"


def train_deit(config: ConfigDict, mixed: int) -> None:
    """DeiT's training (2012.12877; README_deit.md, main.py): 300 epochs of batches of 1,024.

    AdamW at 5e-4 for 512 images, decay 0.05, each image three times in a batch, everything that
    `augment_strongly` does. mixed: images on each of the published run's GPUs.
    """
    augment_strongly(config, mixed, erasing=True)
    config.data.repeats = 3
    config.epochs, config.batch_size = 300.0, 1024
    config.optim.lr, config.optim.lr_for_batch, config.optim.weight_decay = 5e-4, 512, 0.05
    step_as_timm(config)
    config.optim.ema = 0.99996
    config.model.drop_path = 0.1
    config.eval.every = 5000


def train_deit3(config: ConfigDict, size: int, mixed: int, simple_crop: bool = False) -> None:
    """DeiT III's training (2204.07118; README_revenge.md) on ImageNet-1k: batches of 2,048.

    LAMB at 3e-3 whatever the batch, gradients clipped to a norm of 1 (as its FusedLAMB does), decay
    0.05, a binary loss without smoothing, 3-augment, mixup 0.8 or CutMix 1.0, each image three
    times in a batch. size: pixels. mixed: images on each of the published run's GPUs. simple_crop:
    the short side resized and a square cut out at random instead of a resized crop ("SRC").
    """
    crop = f"random_resized_crop({size})"
    if simple_crop:
        crop = f"resize({size})|random_crop({size}, padding=4, reflect=True)"
    config.data.pipeline = f"{crop}|flip|three_augment|color_jitter(0.3, 0.3, 0.3)|normalize"
    config.eval.pipeline = f"resize({size})|center_crop({size})|normalize"
    config.data.repeats = 3
    config.mix.mixup, config.mix.cutmix = 0.8, 1.0
    config.mix.group, config.mix.boxes = mixed, "timm_0_3_2"
    config.task.loss = "binary"
    config.epochs, config.batch_size = 800.0, 2048
    config.optim.name, config.optim.lr, config.optim.clip_norm = "lamb", 3e-3, 1.0
    config.optim.weight_decay = 0.05
    step_as_timm(config)
    config.optim.ema = 0.99996
    config.eval.every = 5000


def fine_tune_deit3(config: ConfigDict, size: int, mixed: int) -> None:
    """DeiT III's 20 epochs at a higher resolution (2204.07118; README_revenge.md).

    AdamW at 1e-5, which is also timm's floor, so constant after the warm-up; decay 0.1, batches of
    512, RandAugment in place of 3-augment, labels smoothed by 0.1, no erasing and no repeats.
    """
    augment_strongly(config, mixed, erasing=False)
    config.data.pipeline = config.data.pipeline.replace("224", str(size))
    config.eval.pipeline = f"resize({size})|center_crop({size})|normalize"
    config.epochs, config.batch_size = 20.0, 512
    config.optim.lr, config.optim.weight_decay = 1e-5, 0.1
    step_as_timm(config)
    config.optim.ema = 0.99996
    config.eval.every = 5000


def train_filter_vit(config: ConfigDict) -> None:
    """AdamW as FilterViT's authors train on ImageNet-100 (2410.22709): 120 epochs of batches of 64.

    Learning rate 5e-4 to 1e-5 along a cosine that moves once an epoch, under a first epoch of
    warm-up that moves with every step; decay 0.01 of every parameter, images in [-1, 1],
    TrivialAugment.
    """
    config.epochs, config.batch_size = 120.0, 64
    config.optim.lr, config.optim.end_lr, config.optim.weight_decay = 5e-4, 1e-5, 0.01
    config.optim.decay_rules = ((".*", True),)
    config.optim.warmup_epochs, config.optim.warmup_from = 1.0, 5e-7
    config.optim.cosine_from, config.optim.moves = "start", "epoch_after_warmup"
    config.data.pipeline = (
        'random_resized_crop(224, interpolation="bilinear")|flip|trivial_augment()'
        "|normalize(0.5, 0.5)"
    )
    config.eval.pipeline = 'resize(256, "bilinear")|center_crop(224)|normalize(0.5, 0.5)'
    config.eval.batch_size, config.eval.every = 256, 2000


def train_filter_vit_on_1k(config: ConfigDict) -> None:
    """FilterViT's authors' training on all of ImageNet (my_train.py): 250 epochs of batches of 64.

    As on ImageNet-100, but on 256 pixels, with 10,000 steps of warm-up, decay 1e-4, and a cosine
    to 5e-5 that is down after 100 epochs.
    """
    train_filter_vit(config)
    config.epochs, config.optim.cosine_epochs = 250.0, 100.0
    config.optim.end_lr, config.optim.weight_decay = 5e-5, 1e-4
    config.optim.warmup_epochs, config.optim.warmup_steps = None, 10_000
    for section in (config.data, config.eval):
        section.pipeline = section.pipeline.replace("224", "256")


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
