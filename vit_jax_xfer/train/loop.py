"""The training loop: one for every task, read from top to bottom.

Order matters inside it: checkpoint, then evaluation, then the next batch, then the step. So a
checkpoint at step i is the state before step i, its evaluation describes the same parameters, and
the data position is the step itself. A kill during an evaluation costs no step: a run that goes on
evaluates its first state where that was due, and its checkpoint gets the metrics then.
"""

import contextlib
import os
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from vit_jax_xfer.config import check_complete
from vit_jax_xfer.pretrained.description import describe
from vit_jax_xfer.storage.checkpoints import Checkpoints
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.registration import check_unused
from vit_jax_xfer.tasks.task import Task, Variables
from vit_jax_xfer.train.class_names import name_classes
from vit_jax_xfer.train.clock import Clock
from vit_jax_xfer.train.compile import compile_aloud, trace_step
from vit_jax_xfer.train.config_ranges import check_numbers
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.dense_benchmarks import DenseBenchmarks
from vit_jax_xfer.train.evaluation import Evaluator, evaluate_sets, evaluate_state, show
from vit_jax_xfer.train.finished_models import save_best, save_finished, write_result
from vit_jax_xfer.train.initial_state import start_or_resume
from vit_jax_xfer.train.inputs import Inputs, open_inputs
from vit_jax_xfer.train.memory_end import telling_what_helps
from vit_jax_xfer.train.memory_need import check_memory
from vit_jax_xfer.train.metrics import MetricWriter
from vit_jax_xfer.train.moved_files import check_moved, contents_of, moved_fields
from vit_jax_xfer.train.patience import Patience
from vit_jax_xfer.train.preparation import with_preparation
from vit_jax_xfer.train.rescue import saved_when_cut_short
from vit_jax_xfer.train.run_checks import check_batch_sizes, check_task
from vit_jax_xfer.train.run_overview import overview
from vit_jax_xfer.train.same_on_hosts import check_same_arguments, check_same_files
from vit_jax_xfer.train.save_timer import SaveTimer
from vit_jax_xfer.train.schedule import make_run_schedule
from vit_jax_xfer.train.sharding import frozen_shardings, make_mesh, place, replicated, to_device
from vit_jax_xfer.train.state import TrainState, step_key
from vit_jax_xfer.train.step_log import StepLog
from vit_jax_xfer.train.step_profile import ProfiledSteps, StepProfile
from vit_jax_xfer.train.stopping import StoppedMidway, StopSignal, check_finite, check_state
from vit_jax_xfer.train.suite_evaluation import SuiteEvaluation
from vit_jax_xfer.train.tracker import check_tracker, open_tracker
from vit_jax_xfer.train.training_pictures import TrainingPictures
from vit_jax_xfer.train.workdir import (
    check_workdir,
    claim_workdir,
    fingerprint,
    folder_of,
    leaves_of,
)
from vit_jax_xfer.train.workdir_lock import WorkdirLock

Result = dict[str, Any]


def run(
    config: ConfigDict, workdir: str | os.PathLike[str], profile: ProfiledSteps | None = None
) -> Result:
    """Trains, or goes on training, the task of a config in a work folder.

    profile: steps to trace (step_profile.py), None = none.
    Returns {"finished": bool, "step": int, "seconds": float, "metrics": {name: float},
    "class_names": [name] or None}: the last evaluation, whether the run reached its end or was
    asked to stop, and which class each output is, None for a task without. ValueError, before any
    step runs, for what is wrong with the config, the data or the folder. OutOfMemory, with what to
    change, where memory runs out.
    """
    check_complete(config)
    timer = SaveTimer(config.checkpoint.minutes)
    # From the start: until then a signal would be lost on several processes, where JAX catches it.
    stopping = StopSignal(save_due=timer.due, sync_point=True, save_within=timer.tolerance)
    with telling_what_helps(config, workdir), stopping as stop, WorkdirLock() as lock:
        return _run(config, os.fspath(workdir), profile, stop, timer, lock)


def _run(
    config: ConfigDict,
    workdir: str,
    profile: ProfiledSteps | None,
    stop: StopSignal,
    timer: SaveTimer,
    lock: WorkdirLock,
) -> Result:
    # --- mesh ------------------------------------------------------------------------------------
    check_same_arguments(config)
    sizes = config.mesh
    mesh = make_mesh(sizes.data, sizes.fsdp, sizes.tensor, sizes.slices)
    check_unused(config)
    check_batch_sizes(mesh, config)
    check_numbers(config)
    check_tracker(config.log.tracker)

    # --- data, and the task: its network, and the teacher on its devices -------------------------
    inputs = open_inputs(config)
    run_schedule = make_run_schedule(config, inputs.steps_per_epoch())
    task = build_task(config, inputs.image_shape(), inputs.num_classes)
    check_task(task, inputs, config)
    name_classes(task, config, inputs.class_names)
    say(inputs.overview(task.needs_labels))
    teacher = fingerprint(task.frozen)
    suites = SuiteEvaluation(task, config, inputs, mesh, stop.watched)
    check_same_files(inputs, task, teacher, suites.sources())
    frozen = place(task.frozen, frozen_shardings(task.frozen, mesh, config.mesh))
    evaluator = Evaluator(task, mesh, stop.watched)
    benchmarks = DenseBenchmarks(task, config, inputs.eval_shape(), stop.leave_evaluation)
    pictures = TrainingPictures(task, config, inputs)

    # --- the folder: of no other run, and the same for all hosts ---------------------------------
    lock.take(folder_of(workdir))
    folder = check_workdir(workdir, config)
    moved = moved_fields(folder, config)
    if not task.trains:
        claim_workdir(folder, config)
        return evaluate_only(task, frozen, evaluator, suites, inputs, folder)

    # --- shapes, shardings and the step, compiled before anything is allocated -------------------
    checkpoints = Checkpoints(
        folder / "checkpoints",
        keep_last=config.checkpoint.keep_last,
        keep_best=config.checkpoint.keep_best,
        best_metric=config.checkpoint.best_metric or None,
        evaluation=inputs.evaluation(),
    )
    batch_shapes = inputs.batch_shapes()
    program = trace_step(task, config, run_schedule, mesh, batch_shapes)
    check_memory(program, batch_shapes, config)
    train_step, compile_seconds = compile_aloud(program, checkpoints)
    shapes, shardings = program.shapes, program.shardings
    say(overview(program, train_step))

    # --- the state: of the newest checkpoint, else fresh -----------------------------------------
    class_names = list(inputs.class_names) if task.needs_labels else None
    state, start, earlier = start_or_resume(
        checkpoints,
        program.init,
        program.loaded,
        shapes,
        shardings,
        config,
        run_schedule,
        task,
        teacher,
    )
    inputs.check_sizes(earlier.get("images", {}))
    contents = contents_of(inputs, task.initial)
    if "data" in earlier:  # of a checkpoint
        check_moved(moved, earlier.get("contents", {}), contents)
    # Broken images are known by names, which others are where the images have moved.
    known_broken = () if moved else earlier.get("broken", ())
    key = place(step_key(config.seed), replicated(mesh))

    # --- steps: only now, past all that can be wrong, is the folder written to -------------------
    claim_workdir(folder, config)
    clock = Clock(run_schedule.total_steps, config.batch_size, interval=config.log.progress_seconds)
    clock.restore(earlier["clock"])
    writer = _open_writer(config, folder, start)
    log = StepLog(
        writer,
        clock,
        config.log.every,
        run_schedule.total_steps,
        skipped=earlier.get("skipped", 0),
    )
    model = with_preparation(task.model, inputs.eval_pipeline, inputs.eval_shape())
    # What a checkpoint says beside its arrays, so that it is a model and a start by itself.
    about = {"teacher": teacher, "class_names": class_names, "model": describe(model)}
    about |= {"images": inputs.sizes(), "contents": contents, "evaluation": inputs.evaluation()}
    about["compile_seconds"] = compile_seconds

    def save(step: int, state: TrainState) -> None:
        check_state(step, state)
        position = {"clock": clock.state(), "data": {"step": step}, "skipped": log.skipped}
        position |= {"broken": stream.broken, "patience": patience.state()}
        checkpoints.save(step, state, {**position, **about})
        timer.restart()

    def save_newest() -> None:
        log.flush()
        save(int(state.step), state)

    other = earlier.get("evaluation", about["evaluation"]) != about["evaluation"]
    if other and config.checkpoint.best_metric:
        say("the evaluation is another than before: the best step is looked for from here on")
    patience = Patience(
        config.eval.patience,
        config.checkpoint.best_metric,
        earlier.get("patience", {}),
        about["evaluation"],
    )
    finished, best, results = False, None, {}
    timer.restart()
    with (
        contextlib.closing(writer),
        checkpoints,
        inputs.train_stream(start, known_broken) as stream,
        saved_when_cut_short(checkpoints, save_newest),
        StepProfile(profile, folder, start, run_schedule.total_steps) as tracing,
    ):
        for step in range(start, run_schedule.total_steps + 1):
            last = step == run_schedule.total_steps
            tracing.end_before(step, state)
            stopping = stop.requested(step)
            due = run_schedule.saves_at(step) or stop.save_due()
            saving = stopping or (due and step > start)
            evaluating = run_schedule.evaluates_at(step) and not stopping
            picturing = pictures.due(step) and not stopping
            if saving or evaluating or picturing:
                log.flush()
            if saving:
                save(step, state)
            shown = pictures.draw(step, state, frozen, folder, writer) if picturing else {}
            if evaluating:
                figures = evaluate_state(evaluator, state, frozen, inputs)
                results = {**figures, **benchmarks(state.variables(), frozen)}
                last = patience.ends(step, results) or last
                results |= suites(step, last, state, frozen)
                writer.write(step, {**results, **shown}, kind="eval")
                say(f"step {step}/{run_schedule.total_steps} evaluation  {show(results)}")
                check_finite(step, figures)
                best_yet = patience.improved and config.checkpoint.keep_best > 0
                if (last or best_yet) and step > start and not saving:
                    save(step, state)
                    saving = True
                if saving or step == start:
                    checkpoints.rate(step, results)
            elif shown:
                writer.write(step, shown, kind="eval")
            if last or stopping:
                finished = not stopping
                break
            tracing.begin(step, state)
            with clock.waiting(), stop.ending_wait():
                rows = next(stream)
            batch = to_device(rows, mesh)
            with jax.profiler.StepTraceAnnotation("train", step_num=step):
                state, metrics = train_step(state, frozen, batch, key)
            log.after_step(step, {**metrics, **stream.counts()})
        best = checkpoints.best_step() if config.checkpoint.keep_best else None
    result = {"finished": finished, "step": step, "seconds": clock.elapsed, "metrics": results}
    result["class_names"] = class_names
    if finished:
        save_finished(folder, state, about["model"], result)
        if best is not None:
            save_best(folder, best, config.checkpoint.best_metric)
    return result


def _open_writer(config: ConfigDict, folder: pathlib.Path, start: int) -> MetricWriter:
    """Where a run's numbers go from a step on; the first process writes them."""
    first = jax.process_index() == 0
    return MetricWriter(
        folder,
        tensorboard=config.log.tensorboard,
        enabled=first,
        resume_step=start,
        tracker=open_tracker(config.log.tracker, folder, leaves_of(config)) if first else None,
    )


def evaluate_only(
    task: Task,
    frozen: Variables,
    evaluator: Evaluator,
    suites: SuiteEvaluation,
    inputs: Inputs,
    folder: pathlib.Path,
) -> Result:
    """A task without anything to train: its evaluation alone, from its start after a stop."""
    left = {"finished": False, "step": 0, "seconds": 0.0, "metrics": {}}
    try:
        variables = task.init(jax.random.key(0))
        figures = evaluate_sets(evaluator, variables, frozen, inputs)
        results = {**figures, **suites.figures({"": variables}, frozen)}
    except StoppedMidway:
        return left
    with _open_writer(inputs.config, folder, 0) as writer:
        writer.write(0, results, kind="eval")
    say(f"evaluation  {show(results)}")
    check_finite(0, figures)
    result = {**left, "finished": True, "metrics": results}
    write_result(folder, result)
    return result
