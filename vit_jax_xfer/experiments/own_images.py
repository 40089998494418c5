"""One's own images as a form of a config: `attention_distill:folder,path=IMAGES,labels=5,seed=1`.

Everything that hangs on the images follows from a look at the names in their folder: the split that
is evaluated, how many images there are to learn from, and from that batch, steps and rate.
"""

import dataclasses
import functools
import math
import pathlib
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from vit_jax_xfer.data.sources.folder import FLAT_SPLIT, FolderSource, list_folder
from vit_jax_xfer.data.sources.split import stratified_range
from vit_jax_xfer.experiments.variants import OWN_IMAGES, leave_recipe, use_plain_adamw
from vit_jax_xfer.models.preprocessing import IMAGENET, Preprocessing
from vit_jax_xfer.models.registry import STUDENT_LIKE, create_model, network_class
from vit_jax_xfer.tasks.registration import find_task
from vit_jax_xfer.tasks.teachers import read_network

GetConfig = Callable[[str | None], ConfigDict]

# Splits that are evaluated where a folder has them, the first that is there; of the last no step is
# chosen. Where there is none, a fifth of each class is.
_EVALUATED = ("validation", "val", "valid", "test")
_MADE = (f"{FLAT_SPLIT}[:80%,stratified]", f"{FLAT_SPLIT}[80%:,stratified]")
_BATCHES = (8, 64)  # the least and the most, powers of two
_STEPS = (500, 50_000)
_PART = re.compile(r"""(\w+)=(?:"([^"]*)"|'([^']*)'|([^,'"]*))(?:,|$)""")


class Training(NamedTuple):
    """How long a kind of run trains on few images, and the peak of its rate with batches of 64.

    highest_lr: whatever the batch.
    """

    epochs: float
    lr: float
    highest_lr: float = math.inf


_TRAINING = {
    # Chosen with 5 images a class, on those of the training images that were left out
    # (docs/real_teacher.md).
    "scratch": Training(100.0, 1.7e-3, highest_lr=1e-3),
    "teaching": Training(100.0, 1.7e-3, highest_lr=1e-3),
    "finetune": Training(50.0, 2e-4),
    "probe": Training(50.0, 1e-2),
    "pretraining": Training(200.0, 5e-4),
    "filter": Training(100.0, 5e-4),
    "guided": Training(100.0, 5e-4),  # a filter whose choice is taught
    "upsampling": Training(20.0, 1e-3),
    "ensemble": Training(0.0, 0.0),
}
# The field that takes `teacher=`, by kind; from scratch `like=` names what only gives the size.
_TEACHER = {
    "teaching": "task.teacher",
    "guided": "task.teacher",
    "finetune": "init_from",
    "probe": "init_from",
    "upsampling": "task.backbone",
}

# Of a student from fresh weights: all native parts but LayerScale, which begins at 1e-5 in many
# families. So a block does next to nothing for hundreds of steps (docs/real_teacher.md).
_FRESH_PARTS = "-layer_scale"


@dataclasses.dataclass(frozen=True)
class OwnImages:
    """What the argument of such a form says."""

    path: str = ""
    labels: int = 0  # labelled images a class; 0 = all
    size: int = 0  # pixels of a side; 0 = the kind's own
    seed: int = 0  # of the run, and of which images are labelled
    student: str = ""  # a network's name, or "like": as the teacher
    teacher: str = ""  # weights; also to be given by the field itself
    like: str = ""  # weights whose network has the size that is learnt from scratch
    unlabeled: int = 0  # 1: the teacher's loss on all training images beside the labelled ones


class Splits(NamedTuple):
    """Which images are learnt from, and which are evaluated."""

    train: str
    evaluated: str
    counts: np.ndarray  # of training images a class, int (K,); of all where there are no classes


def takes_own_images(of: str = "") -> Callable[[GetConfig], GetConfig]:
    """Gives a config's `get_config` the form "folder,path=IMAGES,…" (docs/recipes.md).

    of: the argument of the config that the form is made of.
    """

    def decorate(get_config: GetConfig) -> GetConfig:
        @functools.wraps(get_config)
        def with_form(arg: str | None = None) -> ConfigDict:
            if not _asked(arg):
                return get_config(arg)
            config = get_config(of)
            use_own_images(config, _parse(arg, _kind(config)))
            return config

        return with_form

    return decorate


def refuse_own_images(arg: str | None, instead: str) -> None:
    """ValueError where a config is asked for the form, and learns from more than classes."""
    if _asked(arg):
        raise ValueError(
            f"config argument {OWN_IMAGES!r}: folders of images say classes alone; {instead}"
        )


def _asked(arg: str | None) -> bool:
    """Whether a config's argument is this form."""
    return (arg or "").partition(",")[0].strip() == OWN_IMAGES


def use_own_images(config: ConfigDict, images: OwnImages) -> None:
    """Puts one's own images into a config, and what suits their number. ValueError."""
    kind = _kind(config)
    splits = _look(images, needs_classes=find_task(config.task.name).needs_labels)
    size = images.size or (448 if kind == "upsampling" else 224)  # whole quarters of all patches
    config.seed = config.data.subset_seed = images.seed
    config.data.source, config.data.split = f"folder:{images.path}", splits.train
    config.data.per_class, config.data.classes = images.labels, ""
    config.eval.source, config.eval.split = "", splits.evaluated
    if splits.evaluated == "test":
        config.checkpoint.best_metric = ""  # no step is chosen by it
    _use_network(config, kind, images)
    _use_pipelines(config, kind, size, images.teacher or images.like)
    number = images.labels * len(splits.counts) or int(splits.counts.sum())
    _use_training(config, kind, number)
    if images.unlabeled:
        config.unlabeled.source, config.unlabeled.split = config.data.source, splits.train
        config.unlabeled.batch_size = config.batch_size


def _kind(config: ConfigDict) -> str:
    """Which of _TRAINING a config is."""
    if config.task.name in ("masked_pretraining", "feature_upsampling", "ensemble"):
        return config.task.name.removeprefix("masked_").removeprefix("feature_")
    filters = "attention" not in network_class(config.model.name).collections
    if "teacher" in config.task:
        return "guided" if filters else "teaching"
    if filters:
        return "filter"
    if not config.init_from:
        return "scratch"
    return "probe" if (".*", 0.0) in tuple(config.optim.lr_rules) else "finetune"


def _parse(arg: str, kind: str) -> OwnImages:
    """The argument of a kind's form. ValueError for what it has no meaning for."""
    rest, given = arg.partition(",")[2], {}
    types = {one.name: one.type for one in dataclasses.fields(OwnImages) if _takes(kind, one.name)}
    while rest:
        found = _PART.match(rest)
        if not found or found[1] not in types or found[1] in given:
            known = ", ".join(f"{name}=…" for name in types)
            raise ValueError(
                f"config argument {rest!r}: expected each once of {known}; a path with a comma "
                "stands in quotes, path='a,b'"
            )
        name, text = found[1], next(filter(None, found.groups()[1:]), "")
        if types[name] is int and not text.isdecimal():
            raise ValueError(f"config argument {name}={text}: expected a whole number")
        if (name == "size" and not int(text)) or (name == "unlabeled" and int(text) > 1):
            expected = "pixels" if name == "size" else "0 or 1"
            raise ValueError(f"config argument {name}={text}: expected {expected}")
        given[name], rest = types[name](text), rest[found.end() :]
    if not given.get("path"):
        raise ValueError(f"config argument {arg!r}: no path=IMAGES is in it, the images' folder")
    return OwnImages(**given)


def _takes(kind: str, name: str) -> bool:
    """Whether a kind's form has a use for a part of the argument."""
    if name == "student":  # that of what starts from weights is theirs
        return kind not in ("finetune", "probe", "ensemble")
    if name == "labels":
        return kind not in ("pretraining", "upsampling", "ensemble")
    only = {"teacher": tuple(_TEACHER), "like": ("scratch",)}
    only["unlabeled"] = ("teaching", "guided")
    return kind in only.get(name, (kind,))


def _look(images: OwnImages, needs_classes: bool) -> Splits:
    """The splits of the folder, by its names alone. ValueError that says what is amiss there."""
    where = f"config argument path={images.path}"
    root = pathlib.Path(images.path).expanduser()
    names = [name for name in _EVALUATED if (root / name).is_dir()]
    try:
        listed = list_folder(images.path, FLAT_SPLIT)
        # A test folder without classes, as contests have it, is nothing to evaluate.
        there = [one for one in names if not needs_classes or _has_classes(images.path, one)]
    except ValueError as error:
        reason = str(error).removeprefix("spec: ").removeprefix("split: ")
        raise ValueError(f"{where}: {reason}") from None
    if needs_classes and not listed.num_classes:
        raise ValueError(
            f"{where}: {len(listed)} images without classes, and this learns classes: give a "
            "folder for each class; masked_pretraining, lift and convex_lift learn without"
        )
    if (root / FLAT_SPLIT).is_dir() and there:
        train, evaluated, labels = FLAT_SPLIT, there[0], listed.labels()
    else:
        train, evaluated = _MADE
        _check_made(listed, where)
        labels = listed.labels()[stratified_range(train, listed.labels())]
    counts = np.bincount(labels + (0 if listed.num_classes else 1))
    if images.labels > counts.min():
        scarce = listed.class_names[int(counts.argmin())]
        raise ValueError(
            f"config argument labels={images.labels}: class {scarce!r} has {counts.min()} images "
            "to learn from"
        )
    return Splits(train, evaluated, counts)


def _has_classes(path: str, split: str) -> bool:
    return list_folder(path, split).num_classes > 0


def _check_made(listed: FolderSource, where: str) -> None:
    """ValueError where a class has no image to spare for a split that is made."""
    labels, counts = np.unique(listed.labels(), return_counts=True)
    if counts.min() < 2:
        name = listed.class_names[labels[counts.argmin()]] if listed.num_classes else "images"
        raise ValueError(
            f"{where}: {name!r} is a single image, and one of each class is kept for the "
            "evaluation; add images, or a folder 'validation' beside 'train'"
        )


def _use_network(config: ConfigDict, kind: str, images: OwnImages) -> None:
    """The network, and whose weights it learns from."""
    if kind in _TEACHER:
        config.update_from_flattened_dict({_TEACHER[kind]: images.teacher})
    of_weights = kind in ("teaching", "finetune", "probe") or images.like
    name = images.student or ("like" if of_weights else "")
    if name == "like" and of_weights:
        config.model.name, config.model.like = STUDENT_LIKE, images.like or None
        if kind in ("teaching", "scratch"):
            config.model.parts = _FRESH_PARTS
        return
    if images.like:
        raise ValueError(f"config argument like={images.like}: beside student={name}; give one")
    if not name and kind in ("scratch", "pretraining"):
        name = re.sub("base|large", "small", config.model.name)
    if name:
        _check_network(config, name)
        config.model.name = name


def _check_network(config: ConfigDict, name: str) -> None:
    """ValueError for a name that is no network's, or one of another kind than the config's."""
    try:
        network = create_model(name)
    except ValueError as error:
        raise ValueError(f"config argument student={name}: {error}") from None
    wanted = network_class(config.model.name)
    if type(network) is not wanted:
        raise ValueError(
            f"config argument student={name}: it is a {type(network).__name__}, and this config "
            f"is of a {wanted.__name__}, such as {config.model.name}"
        )


def _use_pipelines(config: ConfigDict, kind: str, size: int, weights: str) -> None:
    """Images of a size as the weights' publisher normalises and evaluates them, else ImageNet's.

    FilterViT's and LiFT's are their recipes', of another size.
    """
    if kind in ("filter", "guided", "upsampling"):
        usual = 448 if kind == "upsampling" else 224
        # In one pass: what 256 becomes may be the usual size.
        new = {str(usual): str(size), "256": str(round(size * 256 / 224))}
        for section in (config.data, config.eval):
            numbers = re.split(r"(\d+)", section.pipeline)
            section.pipeline = "".join(new.get(part, part) for part in numbers)
        return
    prepared = Preprocessing(*IMAGENET)
    if weights:
        field = _TEACHER.get(kind, "model.like")
        prepared = read_network(field, weights).encoder.preprocessing or prepared
    prepared = dataclasses.replace(prepared, size=size)
    config.eval.pipeline = prepared.pipeline()
    normalize = config.eval.pipeline.rpartition("|")[2]
    area = (0.2, 1.0) if kind == "pretraining" else (0.35, 1.0)
    jitter = "" if kind in ("pretraining", "probe") else "|color_jitter(0.3, 0.3, 0.3)"
    crop = f"random_resized_crop({size}, area={area}, interpolation={prepared.interpolation!r})"
    config.data.pipeline = f"{crop}|flip{jitter}|{normalize}"


def _use_training(config: ConfigDict, kind: str, number: int) -> None:
    """Batch, steps and rate for so many images; none of what a recipe for millions has beside."""
    least, most = _BATCHES
    config.batch_size = min(most, max(least, 2 ** int(math.log2(max(number / 4, 1)))))
    config.eval.batch_size = most
    if kind == "ensemble":
        return
    training = _TRAINING[kind]
    steps = round(training.epochs * number / config.batch_size)
    config.epochs, config.steps = None, min(_STEPS[1], max(_STEPS[0], steps))
    config.eval.every = config.steps // 5
    config.checkpoint.every = 0
    lr = min(training.lr * math.sqrt(config.batch_size / most), training.highest_lr)
    lr = float(f"{lr:.2g}")
    config.optim.lr, config.optim.lr_for_batch = lr, 0
    config.optim.warmup_epochs = None
    if kind == "upsampling":  # Adam at a constant rate
        config.optim.end_lr = lr
        return
    config.optim.end_lr, config.optim.warmup_steps = 1e-6, config.steps // 20
    use_plain_adamw(config)
    if kind in ("filter", "guided"):  # the rest is its own recipe
        return
    leave_recipe(config)
    config.optim.weight_decay = 0.0 if kind == "probe" else 0.05
    config.optim.layer_decay = 0.75 if kind == "finetune" else 1.0
    if "layers" in config.task:
        config.task.layers = None
    if "share_drop_path" in config.task:
        config.task.share_drop_path = False
