"""Which numbers the fields of a config may be: one table, held before anything is opened."""

import re
from typing import Any

from ml_collections import ConfigDict

from vit_jax_xfer.arguments.number_ranges import (
    BELOW_ONE,
    BETWEEN,
    COUNT,
    FINITE,
    FROM_ZERO,
    NETWORK_RANGES,
    POSITIVE,
    NumberRange,
    check_number,
)

_SEED = NumberRange("from 0 to 2**32 - 1", 0, 2**32 - 1)
_CHANCE = NumberRange("a chance from 0 to 1", 0, 1)
_ALPHA = NumberRange("an alpha from 0 to 1000", 0, 1000)
_AXIS = NumberRange("1 or more, or -1 for what is left", 1, others=(-1,))
_UP_TO_ONE = NumberRange("more than 0 and up to 1", 0, 1, without_least=True)
_SIDE = NumberRange("pixels, or 0 or -1", 0, others=(-1,))

# Every field that is a number, or a tuple with numbers in it. Those of `config.model` are
# NETWORK_RANGES, those of a named evaluation set as config.eval's.
CONFIG_RANGES: dict[str, NumberRange] = {
    "seed": _SEED,
    "init_num_heads": FROM_ZERO,
    "steps": FROM_ZERO,
    "epochs": FROM_ZERO,
    "batch_size": COUNT,
    "data.per_class": FROM_ZERO,
    "data.subset_seed": _SEED,
    "data.repeats": COUNT,
    "data.workers": FROM_ZERO,
    "data.threads": FROM_ZERO,
    "data.max_broken": FROM_ZERO,
    "data.max_boxes": FROM_ZERO,
    "data.mask_size": FROM_ZERO,
    "unlabeled.batch_size": FROM_ZERO,
    "mix.mixup": _ALPHA,
    "mix.cutmix": _ALPHA,
    "mix.probability": _CHANCE,
    "mix.switch": _CHANCE,
    "mix.group": FROM_ZERO,
    "eval.batch_size": FROM_ZERO,
    "eval.every": FROM_ZERO,
    "eval.patience": FROM_ZERO,
    "eval.suites_every": FROM_ZERO,
    "eval.benchmark_size": FROM_ZERO,
    "eval.benchmark_limit": FROM_ZERO,
    "explain.every": FROM_ZERO,
    "explain.images": FROM_ZERO,
    "optim.lr": FROM_ZERO,
    "optim.end_lr": FROM_ZERO,
    "optim.lr_for_batch": FROM_ZERO,
    "optim.warmup_steps": FROM_ZERO,
    "optim.warmup_epochs": FROM_ZERO,
    "optim.warmup_from": FROM_ZERO,
    "optim.cosine_epochs": POSITIVE,
    "optim.poly_power": POSITIVE,
    "optim.drops": BETWEEN,
    "optim.weight_decay": FROM_ZERO,
    "optim.b1": BELOW_ONE,
    "optim.b2": BELOW_ONE,
    "optim.momentum": BELOW_ONE,
    "optim.trust_coefficient": POSITIVE,
    "optim.layer_decay": _UP_TO_ONE,
    "optim.lr_rules": FROM_ZERO,
    "optim.decay_rules": FROM_ZERO,
    "optim.clip_norm": FROM_ZERO,
    "optim.accumulate": COUNT,
    "optim.ema": BELOW_ONE,
    "mesh.data": _AXIS,
    "mesh.fsdp": _AXIS,
    "mesh.tensor": _AXIS,
    "mesh.slices": FROM_ZERO,
    "mesh.fsdp_min_elements": FROM_ZERO,
    "checkpoint.every": FROM_ZERO,
    "checkpoint.minutes": FROM_ZERO,
    "checkpoint.keep_last": COUNT,
    "checkpoint.keep_best": FROM_ZERO,
    "log.every": COUNT,
    "log.progress_seconds": FROM_ZERO,
    # Of tasks.
    "task.label_smoothing": BELOW_ONE,
    "task.weight": FROM_ZERO,
    "task.unlabeled_weight": FROM_ZERO,
    "task.auxiliary_weight": FROM_ZERO,
    "task.teacher_num_heads": FROM_ZERO,
    "task.teacher_image_size": _SIDE,
    "task.teacher_mean": FINITE,
    "task.teacher_std": POSITIVE,
    "task.backbone_num_heads": FROM_ZERO,
    "task.temperature": POSITIVE,
    "task.mask_ratio": BETWEEN,
    "task.layers": FINITE,
    "task.match_layers": FROM_ZERO,
    "task.heads": FROM_ZERO,
    "task.layer": FINITE,
    "task.depths": COUNT,
    "task.window": FROM_ZERO,
    "task.window_stride": FROM_ZERO,
    **{f"model.{field}": allowed for field, allowed in NETWORK_RANGES.items()},
}


# Fields that are one or a tuple, of any type to ml-collections, and what each part may be.
_PARTS: dict[str, tuple[type, ...]] = {
    "eval.suites": (str,),
    "eval.benchmarks": (str,),
    "explain.methods": (str,),
    "explain.images": (int, str),
}


def check_numbers(config: ConfigDict, prefix: str = "") -> None:
    """ValueError, naming the field, for a number that means nothing there: NaN, b2 = 1, lr < 0.

    And for what is neither a text nor a tuple of them where these are expected.

    prefix: of the fields' names, where the config is one of its sections, such as "optim.". A field
    that the table doesn't have, such as one of a task of one's own, may be any finite number.
    """
    for name, value in config.items():
        field = prefix + name
        if isinstance(value, ConfigDict):
            check_numbers(value, f"{field}.")
        else:
            known = re.sub(r"^eval\.sets\.[^.]+\.", "eval.", field)
            check_number(field, value, CONFIG_RANGES.get(known, FINITE))
            _check_parts(field, value)


def _check_parts(field: str, value: Any) -> None:
    kinds = _PARTS.get(field)
    if kinds is None:
        return
    parts = value if isinstance(value, list | tuple) else [value]
    if any(type(one) not in kinds for one in parts):
        words = "a number or a text" if int in kinds else "a text"
        raise ValueError(f"{field}: got {value!r}, expected {words}, or a tuple of such")
