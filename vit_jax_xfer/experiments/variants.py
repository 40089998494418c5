"""The small variants of the experiments: the same configs on data that two cores can carry.

A config's argument names the variant, then numbers: `configs/scratch.py:digits,labels=20,seed=1`.
FilterViT's configs take the size of the network as well: `configs/filter_vit.py:xs,subset=1`.
"""

import dataclasses
from collections.abc import Collection, Mapping

from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Variant:
    """A data set with the model that suits it."""

    source: str
    test_split: str
    train_pipeline: str
    eval_pipeline: str
    patch_size: int
    width: int
    depth: int
    num_heads: int


VARIANTS: dict[str, Variant] = {
    # UCI's scans, 8×8 pixels, shifted by at most one pixel
    "digits": Variant(
        source="digits",
        test_split="test",
        train_pipeline="random_crop(8, padding=1)|normalize(0.5, 0.5)",
        eval_pipeline="normalize(0.5, 0.5)",
        patch_size=2,
        width=64,
        depth=4,
        num_heads=4,
    ),
    # 28×28 pixels, as `npz:` (docs/results.md shows how the file is made)
    "fashion": Variant(
        source="npz:runs/data/fashion.npz",
        test_split="test",
        train_pipeline="random_crop(28, padding=2)|flip|normalize(0.5, 0.5)",
        eval_pipeline="normalize(0.5, 0.5)",
        patch_size=4,
        width=64,
        depth=4,
        num_heads=4,
    ),
    # 32×32 pixels, likewise
    "cifar10": Variant(
        source="npz:runs/data/cifar10.npz",
        test_split="test",
        train_pipeline="random_crop(32, padding=4)|flip|normalize(0.5, 0.5)",
        eval_pipeline="normalize(0.5, 0.5)",
        patch_size=4,
        width=64,
        depth=4,
        num_heads=4,
    ),
}

# The form of a config for images of one's own (own_images.py).
OWN_IMAGES = "folder"


# The field that does, in the forms of a config that a number is not for, what the number would.
_INSTEAD = {
    "labels": "; --config.data.per_class= keeps so many of a class",
    "unlabeled": "; --config.unlabeled.source= names a second stream",
    "epochs": "; --config.epochs= sets how many",
}


def parse_arg(
    arg: str | None,
    variants: Collection[str] = VARIANTS,
    only: Mapping[str, Collection[str]] | None = None,
    **numbers: int,
) -> tuple[str, dict[str, int]]:
    """ "digits,labels=20" → ("digits", {"labels": 20, …}); numbers: those allowed, with defaults.

    An empty argument is the full experiment, "". only: the variants that a number is for, where it
    isn't for all. ValueError for an unknown variant or number, and for one that isn't for it.
    """
    variant, given = "", {}
    for part in filter(None, (arg or "").split(",")):
        name, equals, value = part.partition("=")
        if not equals and name in variants:
            variant = name
        elif name in numbers and value.isdecimal():
            numbers[name] = given[name] = int(value)
        else:
            known = [*variants, *(f"{number}=N" for number in numbers)]
            if VARIANTS.keys() <= set(variants):  # as of these, of any images with classes
                known.append(f"{OWN_IMAGES},path=IMAGES")
            raise ValueError(f"config argument {part!r} is none of {', '.join(known)}")
    for name, value in given.items():
        forms = (only or {}).get(name, (variant,))
        if value and variant not in forms:
            sizes = ", ".join(filter(None, forms))
            full = "the full size" + (f" ({sizes})" if sizes else "")
            raise ValueError(
                f"config argument {name}={value}: of {full if '' in forms else sizes} alone; leave "
                f"it out{_INSTEAD.get(name, '')}"
            )
    return variant, numbers


def use_variant(config: ConfigDict, variant: str) -> None:
    """Puts the data and the model of a small variant into a config."""
    from vit_jax_xfer.models.registry import network_class

    small = VARIANTS[variant]
    use_data(config, small)
    masked = network_class(config.model.name).predicts == "pixels"
    config.model.name = "mae_vit_micro_patch2" if masked else "vit_micro_patch2"
    for field in ("patch_size", "width", "depth", "num_heads"):
        config.model[field] = getattr(small, field)


def use_data(config: ConfigDict, small: Variant) -> None:
    """Puts the data of a small variant into a config."""
    config.data.source = small.source
    config.data.pipeline = small.train_pipeline
    config.eval.split = small.test_split
    config.eval.pipeline = small.eval_pipeline


def use_few_labels(config: ConfigDict, labels: int, seed: int, unlabeled: int = 0) -> None:
    """The small variants' training on `labels` images a class: a few hundred steps, no frills.

    unlabeled: 1 adds all training images, without labels, as a second stream.
    """
    config.seed = seed
    config.data.per_class, config.data.subset_seed = labels, seed
    config.epochs, config.steps, config.batch_size = None, 800, 64
    config.eval.batch_size = 256  # padded, so that meshes divide it
    config.optim.lr, config.optim.lr_for_batch, config.optim.end_lr = 1e-3, 0, 0.0
    config.optim.warmup_epochs, config.optim.warmup_steps = None, 50
    use_plain_adamw(config)
    leave_recipe(config)
    config.optim.weight_decay, config.optim.layer_decay = 0.05, 1.0
    config.eval.every = 0
    if unlabeled:
        config.unlabeled.source = config.data.source
        config.unlabeled.batch_size = config.batch_size


def leave_recipe(config: ConfigDict) -> None:
    """Leaves out what a recipe for millions of images has beside optimizer and augmentation."""
    config.optim.b2, config.optim.ema = 0.999, 0.0
    config.model.drop_path, config.model.dtype = None, None
    config.data.repeats = 1
    config.mix.update({"mixup": 0.0, "cutmix": 0.0, "group": 0, "boxes": "timm"})
    if "label_smoothing" in config.task:
        config.task.label_smoothing = 0.0
    if "loss" in config.task:
        config.task.loss = "softmax"


def use_plain_adamw(config: ConfigDict) -> None:
    """AdamW whose rate rises from 0 and then follows a cosine, a step at a time."""
    config.optim.update({"name": "adamw", "clip_norm": 0.0, "layer_decay_to": "head"})
    config.optim.update({"warmup_from": 0.0, "cosine_from": "warmup", "moves": "step"})
    config.optim.cosine_epochs = None


def use_filter_variant(config: ConfigDict, variant: str, **numbers: int) -> None:
    """A FilterViT's training on a small variant: its recipe, but 1,000 steps at twice the rate.

    numbers: `labels` a class (0 = all) and `seed`.
    """
    use_data(config, VARIANTS[variant])
    if variant == "digits":  # of 8×8 pixels, too few for a stem without padding and three halvings
        config.data.pipeline = "random_crop(8, padding=1)|resize(24)|normalize(0.5, 0.5)"
        config.eval.pipeline = "resize(24)|normalize(0.5, 0.5)"
    config.data.per_class = numbers["labels"]
    config.seed = config.data.subset_seed = numbers["seed"]
    config.epochs, config.steps = None, 1000
    config.optim.lr, config.optim.end_lr = 1e-3, 1e-5
    config.optim.warmup_epochs, config.optim.warmup_steps = None, 100
    use_plain_adamw(config)
    config.eval.every = 0
    if "teacher" in config.task:  # configs/masked_pretraining.py's of the same variant
        config.task.teacher = "runs/mae/model"
        if variant == "digits":  # enlarged for the student's stem alone
            config.task.teacher_image_size = 8


def use_upsampling_variant(config: ConfigDict, variant: str) -> None:
    """The training of a network that doubles features, on a small variant: 1,000 steps of 64."""
    use_data(config, VARIANTS[variant])
    if variant == "fashion":  # of 28 pixels, and a quarter of them is no whole number of patches
        config.data.pipeline = "random_crop(28, padding=2)|flip|resize(32)|normalize(0.5, 0.5)"
        config.eval.pipeline = "resize(32)|normalize(0.5, 0.5)"
    config.epochs, config.steps, config.batch_size = None, 1000, 64
    config.eval.batch_size, config.eval.every = 256, 0
