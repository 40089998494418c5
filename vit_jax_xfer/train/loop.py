"""The training loop: one for every task, read from top to bottom.

Order matters inside it: evaluation, then checkpoint, then the next batch, then the step. So a
checkpoint at step i is the state before step i, its evaluation describes the same parameters, and
the data position is the step itself.
"""

import contextlib
import json
import os
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vit_jax_xfer.pretrained.description import describe
from vit_jax_xfer.tasks.base import Task, Variables
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train import optimizer
from vit_jax_xfer.train.checkpoints import Checkpoints, save_model
from vit_jax_xfer.train.clock import Clock
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.evaluation import Evaluator
from vit_jax_xfer.train.inputs import Inputs, open_inputs
from vit_jax_xfer.train.metrics import MetricWriter
from vit_jax_xfer.train.overview import overview
from vit_jax_xfer.train.schedule import learning_rates, make_plan
from vit_jax_xfer.train.sharding import (
    batch_sharding,
    check_batch_size,
    make_mesh,
    param_shardings,
    place,
    replicated,
    to_device,
)
from vit_jax_xfer.train.state import TrainState, make_train_step, new_state, state_shardings
from vit_jax_xfer.train.stopping import StopSignal, check_finite
from vit_jax_xfer.train.workdir import check_workdir, claim_workdir, fingerprint

Result = dict[str, Any]


def run(config: ConfigDict, workdir: str | os.PathLike[str]) -> Result:
    """Trains, or goes on training, the task of a config in a work folder.

    Returns {"finished": bool, "step": int, "seconds": float, "metrics": {name: float}}: the last
    evaluation, and whether the run reached its end or was asked to stop. ValueError, before any
    step runs, for what is wrong with the config, the data or the folder.
    """
    # --- mesh ------------------------------------------------------------------------------------
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    check_batch_size(mesh, config.batch_size, "batch_size", config.optim.accumulate)
    check_batch_size(mesh, config.eval.batch_size or config.batch_size, "eval.batch_size")
    if config.unlabeled.source:
        rows = config.unlabeled.batch_size
        check_batch_size(mesh, rows, "unlabeled.batch_size", config.optim.accumulate)

    # --- data and task ---------------------------------------------------------------------------
    inputs = open_inputs(config)
    plan = make_plan(config, inputs.steps_per_epoch())
    task = build_task(config, inputs.image_shape(), inputs.num_classes)
    task.check(inputs.eval_shape())
    check_labels(task, inputs)
    folder = check_workdir(os.fspath(workdir), config)

    # --- the teacher, sharded as parameters are --------------------------------------------------
    frozen_shardings = param_shardings(task.frozen, mesh, config.mesh.fsdp_min_elements)
    frozen = place(task.frozen, frozen_shardings)
    evaluator = Evaluator(task, mesh)
    if not task.trains:
        claim_workdir(folder, config)
        return evaluate_only(task, frozen, evaluator, inputs, folder)

    # --- shapes before arrays, shardings before either exists ------------------------------------
    shapes = jax.eval_shape(task.init, jax.random.key(config.seed))
    depth = getattr(task.model, "encoder", task.model).depth
    scales = optimizer.scale_tree(
        shapes["params"], depth, config.optim.layer_decay, config.optim.lr_rules
    )
    schedule = optimizer.learning_rate(*learning_rates(config), plan.warmup_steps, plan.total_steps)
    tx = optimizer.make_optimizer(
        schedule,
        scales,
        weight_decay=config.optim.weight_decay,
        b1=config.optim.b1,
        b2=config.optim.b2,
        clip_norm=config.optim.clip_norm,
    )
    frozen_params = optimizer.frozen_tree(scales)

    def init(key: jax.Array, initial: Variables) -> TrainState:
        return new_state(overlay(task.init(key), initial), tx, ema=config.optim.ema > 0)

    initial = task.initial or {"params": {}}
    state_shapes = jax.eval_shape(init, jax.random.key(config.seed), initial)
    shardings = state_shardings(state_shapes, tx, mesh, config.mesh.fsdp_min_elements)

    # --- the step, compiled before anything is allocated -----------------------------------------
    step_fn = jax.jit(
        make_train_step(
            task,
            tx,
            frozen_params,
            seed=config.seed,
            ema_decay=config.optim.ema,
            accumulate=config.optim.accumulate,
        ),
        in_shardings=(shardings, frozen_shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )
    train_step = step_fn.lower(
        state_shapes, jax.eval_shape(lambda: frozen), inputs.batch_shapes()
    ).compile()
    say(overview(state_shapes.params, shardings.params, frozen_params, frozen, train_step))

    # --- state: the newest checkpoint, else fresh ------------------------------------------------
    clock = Clock(plan.total_steps, config.batch_size, interval=config.log.progress_seconds)
    checkpoints = Checkpoints(
        folder / "checkpoints",
        keep_last=config.checkpoint.keep_last,
        keep_best=config.checkpoint.keep_best,
        best_metric=config.checkpoint.best_metric or None,
    )
    teacher = fingerprint(task.frozen)
    start = checkpoints.latest_step()
    if start is not None and start > plan.total_steps:
        raise ValueError(f"steps: {folder} is at step {start} already, past {plan.total_steps}")
    if start is None:
        place_initial = param_shardings(initial, mesh, config.mesh.fsdp_min_elements)
        state = jax.jit(init, out_shardings=shardings)(
            jax.random.key(config.seed), place(initial, place_initial)
        )
        start = 0
    else:
        state, extra = checkpoints.restore(with_shardings(state_shapes, shardings))
        if extra["teacher"] != teacher:
            raise ValueError("task.teacher: it is not the one with which this run was started")
        clock.restore(extra["clock"])
        say(f"resuming at step {start} from {folder}")

    # --- steps: only now, past all that can be wrong, is the folder written to -------------------
    claim_workdir(folder, config)
    writer = MetricWriter(
        folder,
        tensorboard=config.log.tensorboard,
        enabled=jax.process_index() == 0,
        resume_step=start,
    )
    log = StepLog(writer, clock, schedule, config.log.every, plan.total_steps)
    results: dict[str, float] = {}
    with (
        contextlib.closing(writer),
        checkpoints,
        StopSignal() as stop,
        inputs.train_stream(start) as stream,
    ):
        for step in range(start, plan.total_steps + 1):
            last = step == plan.total_steps
            stopping = stop.requested(step) and not last
            results_here = None
            if plan.evaluates_at(step) and not stopping:
                log.flush(checkpoints)
                results_here = results = evaluate(state, frozen, evaluator, inputs)
                writer.write(step, results, kind="eval")
                say(f"step {step}/{plan.total_steps} evaluation  {show(results)}")
            if stopping or (plan.saves_at(step) and step > start):
                log.flush(checkpoints)
                extra = {"clock": clock.state(), "data": {"step": step}, "teacher": teacher}
                checkpoints.save(step, state, extra, rankable(results_here, config))
            if last or stopping:
                break
            with clock.waiting():
                batch = to_device(next(stream), mesh)
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                state, metrics = train_step(state, frozen, batch)
            log.after_step(step, metrics, checkpoints)
    result = {"finished": last, "step": step, "seconds": clock.elapsed, "metrics": results}
    if last:
        save_result(folder, task, state, result)
    return result


class StepLog:
    """Reads the metrics of a step while the next one runs, so that the device never waits."""

    def __init__(
        self, writer: MetricWriter, clock: Clock, schedule: Any, every: int, total_steps: int
    ):
        self._writer, self._clock, self._schedule = writer, clock, schedule
        self._every, self._total_steps = every, total_steps
        self._pending: tuple[int, dict[str, jax.Array]] | None = None

    def after_step(
        self, step: int, metrics: dict[str, jax.Array], checkpoints: Checkpoints
    ) -> None:
        """Takes a dispatched step's metrics, and deals with those of the step before."""
        previous, self._pending = self._pending, (step, metrics)
        if previous is not None:
            self._digest(*previous, checkpoints)

    def flush(self, checkpoints: Checkpoints) -> None:
        """Waits for the newest step, so that no checkpoint holds the result of a broken one."""
        previous, self._pending = self._pending, None
        if previous is not None:
            self._digest(*previous, checkpoints)

    def _digest(self, step: int, metrics: dict[str, jax.Array], checkpoints: Checkpoints) -> None:
        loss = float(metrics["loss"])
        if loss != loss or abs(loss) == float("inf"):
            check_finite(step, loss, checkpoints.latest_step())
        self._clock.tick(step + 1)
        last = step + 1 == self._total_steps
        if step % self._every == 0 or last:
            values = {name: float(value) for name, value in metrics.items()}
            self._writer.write(step, {**values, "lr": float(self._schedule(step))})
        if self._clock.due(step + 1):
            shown = {name: float(metrics[name]) for name in ("loss", "top1") if name in metrics}
            self._clock.report({**shown, "lr": float(self._schedule(step))})


def evaluate(
    state: TrainState, frozen: Variables, evaluator: Evaluator, inputs: Inputs
) -> dict[str, float]:
    """The evaluation set through the current parameters, and through their average if kept."""
    results = {}
    for prefix, ema in (("", False), ("ema_", True)):
        if ema and not state.ema:
            continue
        with inputs.eval_stream() as batches:
            found = evaluator(state.variables(ema), frozen, batches)
        results.update({prefix + name: value for name, value in found.items()})
    return results


def evaluate_only(
    task: Task, frozen: Variables, evaluator: Evaluator, inputs: Inputs, folder: os.PathLike[str]
) -> Result:
    """A task without anything to train: its evaluation alone."""
    with inputs.eval_stream() as batches:
        results = evaluator(task.init(jax.random.key(0)), frozen, batches)
    with contextlib.closing(
        MetricWriter(folder, tensorboard=False, enabled=jax.process_index() == 0)
    ) as writer:
        writer.write(0, results, kind="eval")
    say(f"evaluation  {show(results)}")
    return {"finished": True, "step": 0, "seconds": 0.0, "metrics": results}


def save_result(folder: Any, task: Task, state: TrainState, result: Result) -> None:
    """The finished model, and its average if kept, as folders that load_pretrained reads."""
    description = describe(task.model)
    save_model(folder / "model", state.variables(), description)
    if state.ema:
        save_model(folder / "model_ema", state.variables(ema=True), description)
    if jax.process_index() == 0:
        (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    say(f"finished: {folder / 'model'}")


def check_labels(task: Task, inputs: Inputs) -> None:
    """ValueError for images that a task has no use for, and for labels that it needs and lacks."""
    if inputs.unlabeled is not None and not task.uses_unlabeled:
        raise ValueError("unlabeled.source: only a task with a teacher learns from such images")
    if not task.needs_labels:
        return
    classes = task.model.num_classes
    for field, source in (("data.source", inputs.train), ("eval.source", inputs.eval)):
        if source.num_classes < 1:
            raise ValueError(f"{field}: {source.name} has no labels, and this task needs them")
        if source.num_classes > classes:
            raise ValueError(
                f"{field}: {source.name} has {source.num_classes} classes and the model {classes}"
            )


def overlay(variables: Variables, initial: Variables) -> Variables:
    """`variables` with those of `initial`, a part of the same tree, in their place."""
    return {
        name: (
            overlay(value, initial[name])
            if isinstance(value, dict) and name in initial
            else jnp.asarray(initial.get(name, value))
            if not isinstance(value, dict)
            else value
        )
        for name, value in variables.items()
    }


def with_shardings(shapes: Any, shardings: Any) -> Any:
    """Shapes that carry shardings: what a restore fills."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        shapes,
        shardings,
    )


def rankable(results: dict[str, float] | None, config: ConfigDict) -> dict[str, float] | None:
    """The evaluation by which a checkpoint is ranked, if it holds the metric that ranks."""
    best = config.checkpoint.best_metric
    return results if results and (not best or best in results) else None


def show(results: dict[str, float]) -> str:
    """Metrics on one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in results.items())
