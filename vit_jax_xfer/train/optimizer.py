"""AdamW, LAMB, LARS and SGD with layer-wise decay, clipping and freezing, from name rules.

The arithmetic is optax's. A learning-rate scale of 0 freezes: no gradient, moments or decay.
"""

import functools
import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vit_jax_xfer.tasks.task import Task
from vit_jax_xfer.train.average_decay import EMA_STARTS
from vit_jax_xfer.train.learning_rate import learning_rate_of
from vit_jax_xfer.train.leaves import leaf_rules, names_at, stacked_names
from vit_jax_xfer.train.rules import Rules, named_leaves
from vit_jax_xfer.train.schedule import RunSchedule
from vit_jax_xfer.train.trust_ratio import is_hole, scale_by_trust_ratio

PyTree = Any

OPTIMIZERS = ("adamw", "lamb", "lars", "sgd", "nesterov")
# What learns at the whole rate under layer decay: what comes after the blocks (BEiT, MAE), or the
# last block too, as in the pair of networks of the published attention transfer.
WHOLE_RATES = ("head", "last_block")

# What weight decay takes and what it leaves alone, by what each leaf is.
DECAY_RULES: tuple[tuple[str, bool], ...] = leaf_rules(lambda row: row.kind.decays)


class Optimizer(NamedTuple):
    """What a config's `optim` describes.

    frozen: a tree like the parameters, True for those whose learning rate is scaled by 0.
    """

    tx: optax.GradientTransformation
    schedule: optax.Schedule
    frozen: PyTree


def optimizer_of(task: Task, config: ConfigDict, run_schedule: RunSchedule) -> Optimizer:
    """The optimizer of a config for the parameters of its task; allocates nothing."""
    optim = config.optim
    params = jax.eval_shape(task.init, jax.random.key(config.seed))["params"]
    depth = task.model.depth
    if not depth and optim.layer_decay != 1:
        name = type(task.model).__name__
        raise ValueError(f"optim.layer_decay: a {name} has no layers to count; set it to 1")
    words = {"name": OPTIMIZERS, "layer_decay_to": WHOLE_RATES, "ema_start": EMA_STARTS}
    for field, known in words.items():
        if optim[field] not in known:
            raise ValueError(
                f"optim.{field}: got {optim[field]!r}, expected one of {', '.join(known)}"
            )
    scales = scale_tree(
        params, depth, optim.layer_decay, optim.lr_rules, whole=optim.layer_decay_to
    )
    schedule = learning_rate_of(config, run_schedule)
    tx = make_optimizer(
        schedule,
        scales,
        weight_decay=optim.weight_decay,
        decay_rules=optim.decay_rules,
        b1=optim.b1,
        b2=optim.b2,
        clip_norm=optim.clip_norm,
        name=optim.name,
        momentum=optim.momentum,
        trust_coefficient=optim.trust_coefficient,
    )
    return Optimizer(tx, schedule, frozen_tree(scales))


def layer_decay_rules(depth: int, decay: float, whole: str = "head") -> list[tuple[str, Any]]:
    """Scales that shrink towards the input (BEiT 2106.08254, as MAE counts the layers).

    What comes before the blocks has decay^(depth+1), block i decay^(depth-i), the last norm, the
    head and a decoder 1 (see `leaves.py`). The value for stacked blocks is an array (depth,).
    whole: "last_block" has the last block at 1 too, and so all before it a factor less.
    """
    if decay == 1.0:
        return list(leaf_rules(lambda row: 1.0))
    below = depth - (whole == "last_block")  # layers of a smaller rate, without the embeddings
    stacked = np.array([decay ** (below - i) for i in range(depth)], np.float32)
    return [
        (names_at("embeddings"), decay ** (below + 1)),
        *((names_at("block", i), float(stacked[i])) for i in range(depth)),
        (names_at("block"), stacked),
        (names_at("end"), 1.0),
    ]


def scale_tree(
    params: PyTree,
    depth: int,
    layer_decay: float,
    lr_rules: Sequence[tuple[str, float]],
    whole: str = "head",
) -> PyTree:
    """The factor on each parameter's learning rate: layer decay times the config's own rules."""
    by_layer = Rules(layer_decay_rules(depth, layer_decay, whole), "optim.layer_decay").tree(params)
    by_name = Rules([*lr_rules, (".*", 1.0)], "optim.lr_rules")
    check_rules(lr_rules, params, "optim.lr_rules", "a factor", _is_number)
    own = by_name.tree(params)
    return jax.tree.map(
        lambda layer, name, leaf: _column(layer * name, leaf.ndim), by_layer, own, params
    )


def frozen_tree(scales: PyTree) -> PyTree:
    """True for parameters whose learning rate is scaled by 0."""
    return jax.tree.map(lambda scale: not np.any(scale), scales)


def make_optimizer(
    schedule: optax.Schedule,
    scales: PyTree,
    *,
    weight_decay: float,
    b1: float,
    b2: float,
    clip_norm: float | None,
    decay_rules: Sequence[tuple[str, bool]] = (),
    name: str = "adamw",
    momentum: float = 0.9,
    trust_coefficient: float = 0.001,
) -> optax.GradientTransformation:
    """An optimizer as PyTorch users know it: decay times learning rate times layer scale.

    name: "adamw" (1711.05101); "lamb" (1904.00962), whose trust ratio is for what decays, as NVIDIA
    and timm have it; "lars" (1708.03888) with `momentum` and `trust_coefficient`, likewise, its
    momentum before the learning rate, as MoCo v3 and MAE have it; "sgd" with `momentum`; "nesterov"
    with Nesterov's, as timm's "sgd" is.
    decay_rules: come before DECAY_RULES; ValueError where one matches no parameter.
    """
    check_rules(decay_rules, scales, "optim.decay_rules", "True or False", _is_yes_or_no)
    decays = Rules([*decay_rules, *DECAY_RULES], "optim.decay_rules").tree(scales)
    stacked = Rules([(stacked_names(), True), (".*", False)], "stacked").tree(scales)
    adam = optax.scale_by_adam(b1=b1, b2=b2)
    decayed = optax.add_decayed_weights(weight_decay, mask=lambda tree: _like(decays, tree))
    ratio = functools.partial(scale_by_trust_ratio, decays, stacked)
    steps = {
        "adamw": lambda: (adam, decayed),
        "lamb": lambda: (adam, decayed, ratio(1.0)),
        "lars": lambda: (decayed, ratio(trust_coefficient), optax.trace(momentum)),
        "sgd": lambda: (decayed, optax.trace(momentum)),
        "nesterov": lambda: (decayed, optax.trace(momentum, nesterov=True)),
    }[name]()
    whole = optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        *steps,
        optax.scale_by_learning_rate(schedule),
        # Last, so that it scales the decay as well.
        optax.stateless(lambda updates, _: _times(updates, scales)),
    )
    frozen = frozen_tree(scales)
    if not any(jax.tree.leaves(frozen)):
        return whole
    return optax.transforms.selective_transform(whole, freeze_mask=frozen)


def check_rules(
    rules: Sequence[tuple[str, Any]],
    params: PyTree,
    what: str,
    expected: str,
    fits: Callable[[Any], bool],
) -> None:
    """ValueError for a rule whose value is none, and for one that matches no parameter.

    Of those the pattern is most often misspelt. what: the field. expected: its values, in words.
    """
    names = [name for name, _ in named_leaves(params)]
    for pattern, value in Rules(rules, what).rules:
        if not fits(value):
            raise ValueError(f"{what}: {pattern.pattern!r}: got {value!r}, expected {expected}")
        if not any(pattern.fullmatch(name) for name in names):
            raise ValueError(f"{what}: {pattern.pattern!r} matches no parameter")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real)


def _is_yes_or_no(value: Any) -> bool:
    return _is_number(value) and value in (0, 1)


def _column(scale: Any, ndim: int) -> Any:
    """A vector of layer scales, shaped to multiply a stacked parameter."""
    array = np.asarray(scale, np.float32)
    return array.reshape(array.shape + (1,) * (ndim - array.ndim)) if array.ndim else float(array)


def _like(values: PyTree, tree: PyTree) -> PyTree:
    """`values` with the holes that freezing left in `tree`."""
    return jax.tree.map(
        lambda leaf, value: leaf if is_hole(leaf) else value, tree, values, is_leaf=is_hole
    )


def _times(updates: PyTree, scales: PyTree) -> PyTree:
    return jax.tree.map(
        lambda update, scale: (
            update if is_hole(update) else update * jnp.asarray(scale, update.dtype)
        ),
        updates,
        scales,
        is_leaf=is_hole,
    )
