"""The fields of a config, with their defaults: what every file in configs/ starts from.

A config is an ml-collections ConfigDict, locked: an unknown field is an error that names the
nearest. `--config.optim.lr=3e-4` overrides a field; None fields take a value of their type.
"""

import functools
import json
from typing import Any, Literal, get_args, get_origin

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from vit_jax_xfer.arguments.meant_names import meant_name
from vit_jax_xfer.tasks.build import TASKS, find_task
from vit_jax_xfer.tasks.flat_settings import flat_types, from_flat, to_flat


def default_config(task: str, model: str, *, settings: dict[str, Any], **fields: Any) -> ConfigDict:
    """A complete config for one task on one model (see `model_config` for `fields`).

    model: "" for a task whose networks are others', such as an ensemble's; it has no fields then.
    settings: the task's own fields that differ from their defaults. ValueError for another task
    without a model.
    """
    if not model and "model" not in find_task(task).unused:
        raise ValueError(f"model: the task {task} has a network of its own; give its name")
    config = ConfigDict()
    config.seed = 0
    config.task = task_config(task, **settings)
    config.model = model_config(model, **fields)
    # Start from these weights: whatever load_pretrained reads, a run's folder and hf:ORG/NAME too.
    config.init_from = ""
    config.init_num_heads = 0  # if the file doesn't say and 64 channels a head is wrong

    config.steps = placeholder(int)  # exactly one of steps and epochs
    config.epochs = placeholder(float)
    config.batch_size = 1024  # of all devices together

    config.data = ConfigDict()
    # digits | tfds:NAME | folder:PATH | npz:FILE | inaturalist2018:PATH (2017, 2019, 2021)
    # boxes: coco:ROOT | coco:JSON:IMAGES | voc:PATH | yolo:DATA.yaml | yolo:IMAGES:LABELS:CLASSES
    # masks of classes: ade20k:PATH | voc_masks:PATH | masks:IMAGES:MASKS | masks:…:CLASSES
    config.data.source = "tfds:imagenet2012"
    config.data.split = "train"
    # Which classes; so has config.unlabeled where it has the same source, and evaluation sets.
    config.data.classes = ""  # NAME,NAME,… | FILE, a name a line | imagenet100/1 … 5; "" = all
    config.data.per_class = 0  # labelled images a class, 0 = all
    config.data.subset_seed = 0  # which images those are
    config.data.pipeline = "random_resized_crop(224)|flip|normalize"
    # Repeated augmentation: so many times each image is in a batch, prepared anew, and an epoch
    # shows that part of the images. DeiT and DeiT III have 3, one on each of as many GPUs.
    config.data.repeats = 1
    config.data.workers = 0  # processes that decode and augment; 0 = threads of this one
    config.data.threads = 2  # of each of these processes, or of this one; 0 = none beside its own
    # Whether JPEGs of training are decoded at 1/2, 1/4 or 1/8 of their size where the box of a
    # random_resized_crop still has the pixels that it is resized to. Published runs never do.
    config.data.draft = False
    # Images that can't be read, of each stream: so many are skipped, by name and counted; one more
    # ends the run, with a checkpoint. What is found before the first step is refused.
    config.data.max_broken = 10
    # Of images with objects: so many are kept, the largest, and each one's mask in the frame of its
    # box has so many pixels a side; 0 = boxes alone.
    config.data.max_boxes = 100
    config.data.mask_size = 0
    config.data.tfds_dir = ""  # the folder of prepared tfds sets; "" = tfds' own default

    # A second stream of images, without labels, for tasks with a teacher. "" = none.
    config.unlabeled = ConfigDict()
    config.unlabeled.source = ""
    config.unlabeled.split = "train"
    config.unlabeled.pipeline = ""  # "" = as data.pipeline
    config.unlabeled.batch_size = 0

    # Mixup and CutMix of labelled images, in the step, after data.pipeline.
    config.mix = ConfigDict()
    config.mix.mixup = 0.0  # alpha of the share's Beta distribution; 0 = no mixup
    config.mix.cutmix = 0.0  # the same of CutMix; 0 = none
    config.mix.probability = 1.0  # that what shares a draw is mixed at all
    config.mix.switch = 0.5  # that it is CutMix, where there are both
    config.mix.mode = "batch"  # what shares a draw: batch (a whole group) | pair | element
    # Images that are mixed among themselves: published draws are one for each GPU's 32 or 64. 0 =
    # the whole batch.
    config.mix.group = 0
    config.mix.boxes = "timm"  # CutMix's: timm | timm_0_3_2 (MAE, attention transfer)

    config.eval = ConfigDict()
    config.eval.source = ""  # "" = as data.source
    config.eval.split = "validation"
    config.eval.pipeline = "resize(256)|center_crop(224)|normalize"
    config.eval.batch_size = 0  # 0 = as batch_size
    config.eval.classes = ""  # of the set's own; "" = as data.classes
    # From the set's class names to the model's, where they differ: a .json file of an object, a
    # text file with two names a line and a tab between, or the object itself. "" = the same names.
    config.eval.class_map = ""
    config.eval.logits = "all"  # present: only the set's classes can be predicted (ImageNet-A, -R)
    # Named sets in place of that one, whose fields are then what these leave at "" or 0; metrics
    # are called NAME/top1 where there are several. See `add_evaluation_set`.
    config.eval.sets = ConfigDict()
    config.eval.every = 0  # steps between evaluations; 0 = at the end only
    # Evaluations without a better checkpoint.best_metric that end the run; 0 = it goes to its end.
    config.eval.patience = 0
    # Published suites (docs/suites.md), one or a tuple of their names, as ("imagenet", "a"), at the
    # end and at evaluations whose step suites_every divides; metrics are a/top1, c/mce, …
    config.eval.suites = FieldReference((), field_type=object)
    config.eval.suites_root = ""  # the folder that holds them, or tfds:FOLDER
    config.eval.suites_every = 0  # a multiple of `every`; 0 = at the end only
    config.eval.suites_partial = False  # take sets that are not whole as they are
    # From the suites' class names to the model's, as eval.class_map; "" = the same names.
    config.eval.suites_class_map = ""
    # Dense benchmarks at every evaluation, one or a tuple of TASK:LAYOUT:PATH, such as
    # correspondence:willow:/data/willow.
    config.eval.benchmarks = FieldReference((), field_type=object)
    config.eval.benchmark_size = 0  # pixels of their square images; 0 = as eval.pipeline's
    config.eval.benchmark_limit = 0  # only so many of each one's items; 0 = all

    # Pictures of what the network attends to on some fixed images, into the run's folder and
    # TensorBoard; with a teacher its attention beside, and how far apart the two are as metrics.
    config.explain = ConfigDict()
    config.explain.every = 0  # steps between pictures; 0 = none
    # So many images of the first evaluation set, at even steps through it; or a tuple of numbers of
    # its images; or files and folders, one or a tuple.
    config.explain.images = FieldReference(8, field_type=object)
    # Of vjx.explain.METHODS, one or a tuple, with options as in rollout:discard=0.9. () = the last
    # block's attention; of a FilterViT Grad-CAM, beside what it keeps.
    config.explain.methods = FieldReference((), field_type=object)

    config.optim = ConfigDict()
    config.optim.name = "adamw"  # adamw | lamb | lars | sgd | nesterov
    config.optim.lr = 1e-3  # the peak
    config.optim.end_lr = 0.0
    config.optim.lr_for_batch = 0  # the peak is for this batch size and grows with it; 0 = as it is
    config.optim.warmup_steps = placeholder(int)  # at most one of the two
    config.optim.warmup_epochs = placeholder(float)
    config.optim.warmup_from = 0.0  # the rate of the first step, where there is a warm-up
    config.optim.cosine_from = "warmup"  # its end (MAE) | start: the cosine runs under it (timm)
    config.optim.cosine_epochs = placeholder(float)  # then end_lr stays; None = the whole run
    # When the rate moves: step | epoch (timm) | epoch_late (DeiT) | epoch_after_warmup (FilterViT)
    config.optim.moves = "step"
    # Of a fall as (1 - x)^power in place of the cosine, x from 0 to 1 ("poly"); None = the cosine.
    config.optim.poly_power = placeholder(float)
    # Shares of the run from which on the rate is a tenth of what it was, in place of the cosine.
    config.optim.drops = ()
    config.optim.weight_decay = 0.05
    config.optim.b1 = 0.9  # of AdamW and LAMB, as b2
    config.optim.b2 = 0.999
    config.optim.momentum = 0.9  # of LARS, as trust_coefficient, SGD and Nesterov
    config.optim.trust_coefficient = 0.001
    config.optim.layer_decay = 1.0  # each layer towards the input learns slower by this factor
    # What has the whole rate then: the head (MAE) | last_block, with the head (the published
    # attention transfer, in which all else so learns faster by one such factor).
    config.optim.layer_decay_to = "head"
    config.optim.lr_rules = ((".*", 1.0),)  # (name pattern, factor), first match; 0 freezes
    config.optim.decay_rules = ()  # (name pattern, whether it decays), before the usual ones
    config.optim.clip_norm = 0.0  # of the gradient; 0 = no clipping
    # Parts of a batch that go through one after the other. Losses are those of the whole batch; a
    # batch norm, and task.average="images", see a part.
    config.optim.accumulate = 1
    config.optim.ema = 0.0  # decay of an average of the parameters; 0 = none
    # How the average begins: fixed (that decay at once) | timm_v3, timm_v3_warmup | tensorflow.
    config.optim.ema_start = "fixed"
    # Whether a batch after which the state would not be finite is left out, and counted as the
    # metric "skipped"; else it ends the run. Ten in a row end it always.
    config.optim.skip_nonfinite = False

    config.mesh = ConfigDict()  # devices = data × fsdp × tensor; one of them may be -1
    config.mesh.data = -1
    config.mesh.fsdp = 1
    config.mesh.tensor = 1
    # Slices of TPUs, or nodes of GPUs, that the data axis goes across: 0 = as the devices say.
    config.mesh.slices = 0
    config.mesh.fsdp_min_elements = 2**18  # smaller parameters stay whole on every device
    # Whether fsdp splits a teacher, a backbone and members as well; False keeps them whole on every
    # device, so that no step gathers them.
    config.mesh.fsdp_frozen = True

    config.checkpoint = ConfigDict()
    # Steps; 0 = at evaluations and at the end. The best so far is saved where it is evaluated.
    config.checkpoint.every = 0
    # And so many minutes after the last one: all that a kill without warning costs. 0 = no more.
    config.checkpoint.minutes = 10.0
    config.checkpoint.keep_last = 1
    config.checkpoint.keep_best = 1
    # Of the evaluation: the highest is the best, of a loss the lowest; "" = none.
    config.checkpoint.best_metric = "top1"
    # Whether a start goes on from the checkpoint before where the newest is damaged, which is set
    # aside. False = such a start fails, and says what is there.
    config.checkpoint.fallback = False

    config.log = ConfigDict()
    config.log.every = 50  # steps between rows of metrics.jsonl
    # Between two lines of progress; ever more of them where stdout is no terminal, but a file.
    config.log.progress_seconds = 5.0
    config.log.tensorboard = True
    # Beside files and TensorBoard: "" | wandb | mlflow, each an extra of the package.
    config.log.tracker = ""
    if not find_task(task).trains:
        config.steps, config.checkpoint.best_metric = 0, ""
    return config.lock()


# The fields of a named evaluation set; what is "" or 0 is as config.eval has it.
_EVALUATION_SET: dict[str, Any] = {
    "source": "",
    "split": "",
    "pipeline": "",
    "batch_size": 0,
    "classes": "",
    "class_map": "",
    "logits": "",
}


def add_evaluation_set(config: ConfigDict, name: str, **fields: Any) -> None:
    """Adds the set `config.eval.sets.NAME`; its fields are those of config.eval, without `every`.

    class_map may be a dict. On a command line, --config.eval.sets.NAME.split=… adds one too.
    ValueError for a name that is none, and for an unknown field.
    """
    if not name.isidentifier():
        raise ValueError(f"eval.sets: {name!r} is no name; write it in letters, digits and _")
    unknown = sorted(set(fields) - set(_EVALUATION_SET))
    if unknown:
        known = ", ".join(_EVALUATION_SET)
        raise ValueError(f"eval.sets.{name}: it has no field {unknown[0]!r}, only {known}")
    if isinstance(fields.get("class_map"), dict):
        fields["class_map"] = json.dumps(fields["class_map"])
    with config.unlocked():
        config.eval.sets[name] = ConfigDict({**_EVALUATION_SET, **fields})


def task_config(name: str, **settings: Any) -> ConfigDict:
    """`config.task`: the task's name and its settings."""
    settings_type = find_task(name).settings_type
    types, values = flat_types(settings_type), to_flat(from_flat(settings_type, settings))
    fields = {field: _overridable(types[field], value) for field, value in values.items()}
    return ConfigDict({"name": name, **fields})


def _overridable(declared: Any, value: Any) -> Any:
    """A setting's value, as a reference where its declared type allows more than its value's.

    So a config file may make None of it, and a command line something else of that.
    """
    if get_origin(declared) is Literal:
        return value
    kinds = [kind for kind in get_args(declared) if kind is not type(None)]
    if not kinds:
        return value
    kind = object if len(kinds) > 1 else get_origin(kinds[0]) or kinds[0]
    return FieldReference(value, field_type=kind)


def model_config(name: str, **fields: Any) -> ConfigDict:
    """`config.model`: a model's name, and its fields, of which None leaves the named model's own.

    num_classes and image_size, if None, are those of the training data. The name "student_like" is
    a student of the task's teacher's size, with its native `parts` ("a,b" or a tuple; "-a" = all
    but a; "" = all); of a task without one, of the size of what `init_from` names; of either, of
    other weights' size where `like` names those.
    """
    from vit_jax_xfer.models.registry import STUDENT_LIKE, field_types, network_class

    config = ConfigDict({"name": name})
    types = field_types(name) if name else {}
    if name and "attention" in network_class(name).collections:
        # Every config with a plain student can turn to one like its teacher by the name alone.
        types = {**types, **field_types(STUDENT_LIKE)}
    for field, kind in types.items():
        config[field] = placeholder(kind)
    with config.unlocked():
        for field, value in fields.items():
            if field not in config:
                near = meant_name(field, config)
                raise ValueError(f"model {name!r} has no field {field!r}; did you mean {near!r}?")
            config[field] = value
    return config


def check_field(config: ConfigDict, name: str) -> None:
    """ValueError unless `name`, such as "optim.lr", is a config's field.

    It says which tasks have one that this config's has not, and else the nearest name.
    """
    names = field_names(config)
    if name in names:
        return
    of_task = name.removeprefix("task.") if name.startswith("task.") else ""
    having = [task for task, kind in TASKS.items() if of_task in flat_types(kind.settings_type)]
    if having:
        raise ValueError(
            f"there is no field config.{name} in a config of the task {config.task['name']}; "
            f"choose one of {', '.join(having)}"
        )
    raise ValueError(
        f"there is no field config.{name}; did you mean config.{meant_name(name, names)}?"
    )


def check_no_section(config: ConfigDict, name: str) -> None:
    """ValueError where a field, such as "optim", is a section, which would be replaced whole."""
    section = functools.reduce(lambda tree, part: tree[part], name.split("."), config)
    if not isinstance(section, ConfigDict):
        return
    inside = "name" if "name" in section else next(iter(section), "NAME.split")
    raise ValueError(
        f"config.{name} is a section; its fields are set one by one, as in config.{name}.{inside}"
    )


def check_complete(config: Any) -> None:
    """ValueError, naming the field, for a config that lacks fields or has others.

    Of `task` and `model`, whose fields the task and the network check themselves, their names.
    """
    if not isinstance(config, ConfigDict):
        raise ValueError(f"expected a config, a ConfigDict, got {config!r}")
    usual = default_config("ensemble", "", settings={})  # the task without a model
    with usual.unlocked():
        usual.task = usual.model = ConfigDict({"name": ""})
    _check_same_fields(config, usual)


def _check_same_fields(config: ConfigDict, usual: ConfigDict, section: str = "") -> None:
    if missing := [f"config.{section}{name}" for name in usual if name not in config]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(
            f"{', '.join(missing[:3])}{more}: missing; a config begins as default_config() of "
            "vit_jax_xfer.config, which has all fields"
        )
    for name, value in config.items():
        field = f"{section}{name}"
        if section == "eval.sets.":
            expected = ConfigDict(_EVALUATION_SET)
        elif name in usual:
            expected = usual[name]
        elif section in ("task.", "model."):
            continue
        else:
            meant = meant_name(field, field_names(usual, section))
            raise ValueError(f"there is no field config.{field}; did you mean config.{meant}?")
        if isinstance(expected, ConfigDict):
            if not isinstance(value, ConfigDict):
                raise ValueError(f"config.{field}: expected a section, got {value!r}")
            _check_same_fields(value, expected, f"{field}.")


def field_names(config: ConfigDict, prefix: str = "") -> list[str]:
    """Every field as it stands on a command line, "optim.lr", sections included."""
    names = []
    for key, value in config.items():
        names.append(prefix + key)
        if isinstance(value, ConfigDict):
            names += field_names(value, f"{prefix}{key}.")
    return names
