"""How a run begins: fresh variables with loaded ones in their place, or the newest checkpoint."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vit_jax_xfer.pretrained.parameter_rules import unstack_blocks
from vit_jax_xfer.storage.checkpoints import Checkpoints
from vit_jax_xfer.storage.tree_check import OtherArraysError
from vit_jax_xfer.tasks.task import Task, Variables
from vit_jax_xfer.train.class_names import check_same_classes
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.schedule import RunSchedule
from vit_jax_xfer.train.sharding import param_shardings, place
from vit_jax_xfer.train.state import TrainState, new_state
from vit_jax_xfer.train.workdir import fingerprint

NEW_CLOCK = {"elapsed": 0.0, "step": 0}

Init = Callable[[jax.Array, Variables], TrainState]


def make_init(task: Task, tx: optax.GradientTransformation, config: ConfigDict) -> Init:
    """init(key, loaded) → the state before the first step; pure, for eval_shape and jit."""

    def init(key: jax.Array, loaded: Variables) -> TrainState:
        return new_state(overlay(task.init(key), loaded), tx, ema=config.optim.ema > 0)

    return init


def start_or_resume(
    checkpoints: Checkpoints,
    init: Init,
    loaded: Variables,
    shapes: TrainState,
    shardings: TrainState,
    config: ConfigDict,
    run_schedule: RunSchedule,
    task: Task,
    teacher: str,
) -> tuple[TrainState, int, dict[str, Any]]:
    """The state on its shardings, the step that comes next, and what is beside the state.

    ValueError where the newest checkpoint is of another model, of another teacher (by its
    fingerprint), of data with other classes, or past the end of the run.
    """
    step = checkpoints.latest_step()
    if step is None:
        mesh = shardings.step.mesh
        on_mesh = place(loaded, param_shardings(loaded, mesh, config.mesh.fsdp_min_elements))
        key = jax.random.key(config.seed)
        return jax.jit(init, out_shardings=shardings)(key, on_mesh), 0, {"clock": NEW_CLOCK}
    if step > run_schedule.total_steps:
        raise ValueError(
            f"steps: {checkpoints.directory} is at step {step} already, past "
            f"{run_schedule.total_steps}"
        )
    check_same_classes(task, checkpoints.extra(step))
    state, extra = _restore(checkpoints, _with_shardings(shapes, shardings), step)
    # A teacher whose blocks are stacked for its student was recorded as it was loaded by 0.1.
    recorded = extra["teacher"]
    if recorded != teacher and recorded != fingerprint(unstack_blocks(task.frozen)):
        raise ValueError(f"{task.frozen_field}: it is not the one with which this run was started")
    say(f"resuming at step {step} from {checkpoints.directory}")
    return state, step, extra


def _restore(
    checkpoints: Checkpoints, wanted: TrainState, step: int
) -> tuple[TrainState, dict[str, Any]]:
    """The state of a checkpoint, and what is beside it.

    Version 0.1 averaged parameters alone: from its checkpoints the averages of batch statistics go
    on as the statistics are.
    """
    try:
        return checkpoints.restore(wanted, step)
    except OtherArraysError as error:
        if not wanted.ema_collections:
            raise
        try:
            state, extra = checkpoints.restore(wanted.replace(ema_collections={}), step)
        except OtherArraysError:
            raise error from None
    # A copy: the same buffer cannot be donated twice.
    averages = jax.tree.map(jnp.copy, state.collections)
    return state.replace(ema_collections=averages), extra


def overlay(variables: Variables, loaded: Variables) -> Variables:
    """`variables` with those of `loaded`, a part of the same tree, in their place."""
    merged: Variables = {}
    for name, value in variables.items():
        if name not in loaded:
            merged[name] = value
        elif isinstance(value, dict):
            merged[name] = overlay(value, loaded[name])
        else:
            merged[name] = jnp.asarray(loaded[name])
    return merged


def _with_shardings(shapes: Any, shardings: Any) -> Any:
    """Shapes that carry shardings: what a restore fills."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )
