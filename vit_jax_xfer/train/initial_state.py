"""How a run begins: fresh variables with loaded ones in their place, or the newest checkpoint."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from vit_jax_xfer.compiler import options_of_one_run
from vit_jax_xfer.pretrained.parameter_rules import unstack_blocks
from vit_jax_xfer.storage.checkpoints import CheckpointError, Checkpoints
from vit_jax_xfer.storage.tree_check import OtherArraysError
from vit_jax_xfer.tasks.task import Task, Variables
from vit_jax_xfer.train.class_names import check_same_classes
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.metrics import read_metrics
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
    fingerprint), of data with other classes, or past the end of the run. CheckpointError where it
    is damaged, unless `checkpoint.fallback` lets the one before take its place.
    """
    step = checkpoints.latest_step()
    if step is None:
        _tell_lost(checkpoints, 0)
        mesh = shardings.step.mesh
        on_mesh = place(loaded, param_shardings(loaded, mesh, config.mesh.fsdp_min_elements))
        key = jax.random.key(config.seed)
        options = options_of_one_run(next(iter(mesh.devices.flat)).platform)
        made = jax.jit(init, out_shardings=shardings, compiler_options=options)
        return made(key, on_mesh), 0, {"clock": NEW_CLOCK}
    if step > run_schedule.total_steps:
        raise ValueError(
            f"steps: {checkpoints.directory} is at step {step} already, past "
            f"{run_schedule.total_steps}"
        )
    wanted = _with_shardings(shapes, shardings)
    state, step, extra = _restore_newest(checkpoints, wanted, task, config.checkpoint.fallback)
    # A teacher whose blocks are stacked for its student was recorded as it was loaded by 0.1.
    recorded = extra["teacher"]
    if recorded != teacher and recorded != fingerprint(unstack_blocks(task.frozen)):
        raise ValueError(f"{task.frozen_field}: it is not the one with which this run was started")
    say(f"resuming at step {step} from {checkpoints.directory}")
    _tell_lost(checkpoints, step)
    return state, step, extra


def _restore_newest(
    checkpoints: Checkpoints, wanted: TrainState, task: Task, fallback: bool
) -> tuple[TrainState, int, dict[str, Any]]:
    """The newest checkpoint's state, step and what is beside it; of damaged ones none.

    With `fallback` those are set aside once an older one is read, and said.
    """
    steps = checkpoints.steps()
    damaged: list[tuple[int, CheckpointError]] = []
    for step in reversed(steps):
        try:
            check_same_classes(task, checkpoints.extra(step))
            state, extra = _restore(checkpoints, wanted, step)
            break
        except CheckpointError as error:
            damaged.append((step, error))
            if step == steps[0]:
                raise damaged[0][1] from None
            if not fallback:
                hint = ", or pass --config.checkpoint.fallback=True, which sets it aside"
                raise CheckpointError(f"{error}{hint}") from error
    for lost, error in damaged:
        say(f"{error}\n  set aside as {checkpoints.set_aside(lost)}")
    return state, step, extra


def _tell_lost(checkpoints: Checkpoints, step: int) -> None:
    """Says how many steps that an earlier start made are made again."""
    if jax.process_index() == 0:
        rows = read_metrics(checkpoints.directory.parent)
        last = max((row["step"] for row in rows if row["kind"] == "train"), default=-1)
        if last >= step:
            say(f"no newer checkpoint: steps {step} to {last}, made before, are made again")


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
