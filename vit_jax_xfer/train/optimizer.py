"""AdamW with warm-up and cosine, layer-wise decay, clipping and freezing, from name rules.

The arithmetic is optax's. A learning-rate scale of 0 freezes: no gradient, moments or decay.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from vit_jax_xfer.tasks.task import Task
from vit_jax_xfer.train.leaves import leaf_rules, names_at
from vit_jax_xfer.train.rules import Rules, named_leaves
from vit_jax_xfer.train.schedule import RunSchedule, learning_rates

PyTree = Any

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
    scales = scale_tree(params, depth, optim.layer_decay, optim.lr_rules)
    schedule = learning_rate(
        *learning_rates(config), run_schedule.warmup_steps, run_schedule.total_steps
    )
    tx = make_optimizer(
        schedule,
        scales,
        weight_decay=optim.weight_decay,
        decay_rules=optim.decay_rules,
        b1=optim.b1,
        b2=optim.b2,
        clip_norm=optim.clip_norm,
    )
    return Optimizer(tx, schedule, frozen_tree(scales))


def learning_rate(peak: float, end: float, warmup_steps: int, total_steps: int) -> optax.Schedule:
    """Linear from 0 over the warm-up, then half a cosine down to `end` at the last step."""
    cosine = optax.cosine_decay_schedule(
        peak, total_steps - warmup_steps, alpha=end / peak if peak else 0.0
    )
    if not warmup_steps:
        return cosine
    warmup = optax.linear_schedule(0.0, peak, warmup_steps)
    return optax.join_schedules([warmup, cosine], [warmup_steps])


def layer_decay_rules(depth: int, decay: float) -> list[tuple[str, Any]]:
    """Scales that shrink towards the input (BEiT 2106.08254, as MAE counts the layers).

    What comes before the blocks has decay^(depth+1), block i decay^(depth-i), the last norm, the
    head and a decoder 1 (see `leaves.py`). The value for stacked blocks is an array (depth,).
    """
    if decay == 1.0:
        return list(leaf_rules(lambda row: 1.0))
    stacked = np.array([decay ** (depth - i) for i in range(depth)], np.float32)
    return [
        (names_at("embeddings"), decay ** (depth + 1)),
        *((names_at("block", i), float(stacked[i])) for i in range(depth)),
        (names_at("block"), stacked),
        (names_at("end"), 1.0),
    ]


def scale_tree(
    params: PyTree, depth: int, layer_decay: float, lr_rules: Sequence[tuple[str, float]]
) -> PyTree:
    """The factor on each parameter's learning rate: layer decay times the config's own rules."""
    by_layer = Rules(layer_decay_rules(depth, layer_decay), "optim.layer_decay").tree(params)
    by_name = Rules([*lr_rules, (".*", 1.0)], "optim.lr_rules")
    refuse_unused(lr_rules, params, "optim.lr_rules")
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
) -> optax.GradientTransformation:
    """AdamW (1711.05101) as PyTorch computes it: decay times learning rate times layer scale.

    decay_rules: come before DECAY_RULES; ValueError where one matches no parameter.
    """
    refuse_unused(decay_rules, scales, "optim.decay_rules")
    decays = Rules([*decay_rules, *DECAY_RULES], "optim.decay_rules").tree(scales)
    adamw = optax.chain(
        optax.clip_by_global_norm(clip_norm) if clip_norm else optax.identity(),
        optax.scale_by_adam(b1=b1, b2=b2),
        optax.add_decayed_weights(weight_decay, mask=lambda tree: _like(decays, tree)),
        optax.scale_by_learning_rate(schedule),
        # Last, so that it scales the decay as well.
        optax.stateless(lambda updates, _: _times(updates, scales)),
    )
    frozen = frozen_tree(scales)
    if not any(jax.tree.leaves(frozen)):
        return adamw
    return optax.transforms.selective_transform(adamw, freeze_mask=frozen)


def refuse_unused(rules: Sequence[tuple[str, Any]], params: PyTree, what: str) -> None:
    """ValueError for a rule whose pattern matches no parameter: most often a misspelt one."""
    names = [name for name, _ in named_leaves(params)]
    for pattern, _ in Rules(rules, what).rules:
        if not any(pattern.fullmatch(name) for name in names):
            raise ValueError(f"{what}: {pattern.pattern!r} matches no parameter")


def _column(scale: Any, ndim: int) -> Any:
    """A vector of layer scales, shaped to multiply a stacked parameter."""
    array = np.asarray(scale, np.float32)
    return array.reshape(array.shape + (1,) * (ndim - array.ndim)) if array.ndim else float(array)


def _is_masked(leaf: Any) -> bool:
    return isinstance(leaf, optax.MaskedNode)


def _like(values: PyTree, tree: PyTree) -> PyTree:
    """`values` with the holes that freezing left in `tree`."""
    return jax.tree.map(
        lambda leaf, value: leaf if _is_masked(leaf) else value, tree, values, is_leaf=_is_masked
    )


def _times(updates: PyTree, scales: PyTree) -> PyTree:
    return jax.tree.map(
        lambda update, scale: (
            update if _is_masked(update) else update * jnp.asarray(scale, update.dtype)
        ),
        updates,
        scales,
        is_leaf=_is_masked,
    )
