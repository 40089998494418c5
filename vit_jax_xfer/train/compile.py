"""From shapes to a compiled step: nothing is allocated, so a plan of a run can do it as well."""

import time
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vit_jax_xfer.compiler import compiled
from vit_jax_xfer.storage.checkpoints import CheckpointError, Checkpoints
from vit_jax_xfer.tasks.task import Batch, Task, Variables
from vit_jax_xfer.train.clock import format_duration
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.initial_state import Init, make_init
from vit_jax_xfer.train.inputs import finishing
from vit_jax_xfer.train.mixing import mixing_of
from vit_jax_xfer.train.optimizer import Optimizer, optimizer_of
from vit_jax_xfer.train.schedule import RunSchedule
from vit_jax_xfer.train.sharding import batch_sharding, frozen_shardings, replicated
from vit_jax_xfer.train.state import TrainState, make_train_step, state_shardings, step_key


class Program(NamedTuple):
    """A training step of a task on a mesh, and what it takes.

    shapes, shardings: of the state. frozen_shapes: of the task's frozen arrays; frozen_shardings:
    where those lie. loaded: what a fresh start begins with, beside random numbers. traced: the step
    before any compiler saw it, (state, frozen, batch, key) → (state, metrics), the state donated;
    the same for every seed.
    """

    optimizer: Optimizer
    init: Init
    loaded: Variables
    shapes: TrainState
    shardings: TrainState
    frozen_shapes: Variables
    frozen_shardings: Variables
    traced: jax.stages.Traced

    def compile(self) -> jax.stages.Compiled:
        """The step as the devices of the mesh run it."""
        backend = next(iter(self.shardings.step.device_set)).platform
        return compiled(self.traced, backend)


def compile_aloud(program: Program, checkpoints: Checkpoints) -> tuple[jax.stages.Compiled, float]:
    """The compiled step, and the seconds that it took; says before what an earlier one took.

    checkpoints: of the run, whose newest may know.
    """
    last = _last_compilation(checkpoints)
    took = "" if last is None else f" (last time: {format_duration(last)})"
    say(f"compiling the step{took} …")
    begin = time.perf_counter()
    compiled = program.compile()
    return compiled, round(time.perf_counter() - begin, 1)


def _last_compilation(checkpoints: Checkpoints) -> float | None:
    """Seconds; None where it isn't known."""
    try:
        step = checkpoints.latest_step()
        return None if step is None else checkpoints.extra(step).get("compile_seconds")
    except CheckpointError:
        return None  # what is wrong with it is told where the state is read


def trace_step(
    task: Task,
    config: ConfigDict,
    run_schedule: RunSchedule,
    mesh: Mesh,
    batch_shapes: dict[str, jax.ShapeDtypeStruct],
) -> Program:
    """Shapes before arrays, shardings before either exists, and the step on them.

    batch_shapes: of the global batch, before its images are finished and mixed. ValueError, naming
    the field, for an optimizer or a mesh that the parameters do not go with, and for mixing that
    can't be.
    """
    small = config.mesh.fsdp_min_elements
    optimizer = optimizer_of(task, config, run_schedule)
    init = make_init(task, optimizer.tx, config)
    loaded: Any = task.initial or {"params": {}}
    shapes = jax.eval_shape(init, jax.random.key(config.seed), loaded)
    shardings = state_shardings(shapes, optimizer.tx, mesh, small)
    frozen_shapes = jax.eval_shape(lambda tree: tree, task.frozen)
    frozen_places = frozen_shardings(frozen_shapes, mesh, config.mesh)
    finished = finishing(config)
    step = make_train_step(
        task,
        optimizer.tx,
        optimizer.frozen,
        ema_decay=config.optim.ema,
        accumulate=config.optim.accumulate,
        skip_nonfinite=config.optim.skip_nonfinite,
        mix=mixing_of(config, task),
        ema_start=config.optim.ema_start,
        split=(shardings.params, frozen_places) if mesh.shape["fsdp"] > 1 else None,
    )

    def logged(
        state: TrainState, frozen: Variables, batch: Batch, key: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        # Beside the others, so that a log waits for one read alone.
        new, metrics = step(state, frozen, finished(batch), key)
        return new, {**metrics, "lr": optimizer.schedule(state.step)}

    jitted = jax.jit(
        logged,
        in_shardings=(shardings, frozen_places, batch_sharding(mesh), replicated(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
        # What a step doesn't use, such as a teacher's last blocks, lies on the device all the same:
        # so the compiler's figure, which the overview shows, is the plan's.
        keep_unused=True,
    )
    with jax.set_mesh(mesh):  # for models/transformer/batch_axes.py
        traced = jitted.trace(shapes, frozen_shapes, batch_shapes, step_key(config.seed))
    return Program(optimizer, init, loaded, shapes, shardings, frozen_shapes, frozen_places, traced)
