"""What can be known to be wrong before anything runs."""

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vit_jax_xfer.data import Source
from vit_jax_xfer.data.target_arrays import BOXES
from vit_jax_xfer.tasks.task import Task
from vit_jax_xfer.train.evaluation_sets import first_readable, prepared_shape
from vit_jax_xfer.train.inputs import UNLABELED, Inputs, pipeline_of
from vit_jax_xfer.train.sharding import check_batch_size


def check_batch_sizes(mesh: Mesh, config: ConfigDict) -> None:
    """ValueError unless the mesh divides every batch of a config."""
    parts = config.optim.accumulate
    check_batch_size(mesh, config.batch_size, "batch_size", parts)
    check_batch_size(mesh, config.eval.batch_size or config.batch_size, "eval.batch_size")
    for name, section in config.eval.sets.items():
        if section.batch_size:
            check_batch_size(mesh, section.batch_size, f"eval.sets.{name}.batch_size")
    if config.unlabeled.source:
        check_batch_size(mesh, config.unlabeled.batch_size, "unlabeled.batch_size", parts)


def check_task(task: Task, inputs: Inputs, config: ConfigDict) -> None:
    """ValueError for images that a task has no use for, labels that it lacks, unknown metrics."""
    for chosen in inputs.eval_sets.values():
        try:
            task.check(chosen.image_shape())
        except ValueError as error:  # what fits the images of training is right in itself
            raise ValueError(f"{chosen.field}.pipeline: {error}") from None
    if inputs.unlabeled is not None:
        task.check_unlabeled()
        _check_unlabeled_shape(inputs.unlabeled, inputs, config)
    if task.needs_labels:
        _check_labels(task, inputs)
    if task.targets:
        _check_targets(task, inputs, config)
    if config.eval.patience and not (config.checkpoint.best_metric and config.eval.every):
        raise ValueError(
            "eval.patience: counts evaluations on the way without a better metric; set eval.every "
            "and checkpoint.best_metric, or 0 here"
        )
    if task.trains and config.checkpoint.best_metric:
        _check_metric(config.checkpoint.best_metric, task, inputs, averages=config.optim.ema > 0)


def _check_unlabeled_shape(source: Source, inputs: Inputs, config: ConfigDict) -> None:
    """ValueError unless images of both streams, which go through as one batch, are alike."""
    field = "unlabeled.pipeline" if config.unlabeled.pipeline else "data.pipeline"
    shape = prepared_shape(source, pipeline_of(config, UNLABELED), field)
    if shape != (wanted := inputs.image_shape()):
        raise ValueError(
            f"{field}: makes {shape[0]}×{shape[1]} pixels of images of unlabeled.source and "
            f"data.pipeline {wanted[0]}×{wanted[1]} of those of data.source; make them alike"
        )


def _check_labels(task: Task, inputs: Inputs) -> None:
    classes = task.model.num_classes
    sources = {"data.source": inputs.train}
    sources |= {f"{one.field}.source": one.source for one in inputs.eval_sets.values()}
    for field, source in sources.items():
        labelled = task.targets or first_readable(source)["label"] >= 0
        if source.num_classes < 1 or not labelled:
            raise ValueError(f"{field}: {source.name} has no labels, and this task needs them")
    train = inputs.train
    if train.num_classes == 1 and task.targets != BOXES:
        raise ValueError(
            f"data.source: {train.name} has one class, {train.class_names[0]!r}, and this task "
            "learns to tell classes apart: it needs two or more"
        )
    if train.num_classes > classes:
        raise ValueError(
            f"data.source: {train.name} has {train.num_classes} classes and the model {classes}"
        )
    for chosen in inputs.eval_sets.values():
        _ = chosen.match  # raises where a class is none of the model's


def _check_targets(task: Task, inputs: Inputs, config: ConfigDict) -> None:
    """ValueError for what goes with classes of whole images alone, and for no object to find."""
    if config.data.per_class:
        raise ValueError("data.per_class: images with boxes or masks are of no one class; set it "
                         "to 0")  # fmt: skip
    for one in inputs.eval_sets.values():
        if one.logits != "all":
            raise ValueError(f"{one.field}.logits: {one.logits!r} is for classes of whole images; "
                             "leave it at 'all'")  # fmt: skip
        places = range(len(one.source))
        if task.targets == BOXES and not any(len(one.source.target(i).targets) for i in places):
            raise ValueError(f"{one.field}.source: {one.source.name} has no objects, so that there "
                             "is nothing to evaluate")  # fmt: skip


def _check_metric(name: str, task: Task, inputs: Inputs, averages: bool) -> None:
    known = set(_sums(task, inputs) if task.metrics is None else task.metrics)
    if averages:
        known |= {f"ema_{metric}" for metric in known}
    known = {f"{one.prefix}{metric}" for one in inputs.eval_sets.values() for metric in known}
    if name not in known:
        names = ", ".join(sorted(known))
        raise ValueError(f"checkpoint.best_metric: {name!r} is none of the evaluation's {names}")


def _sums(task: Task, inputs: Inputs) -> set[str]:
    """The names of the sums that become figures."""
    batch = {
        "image": jax.ShapeDtypeStruct((1, *inputs.eval_shape()), np.float32),
        "label": jax.ShapeDtypeStruct((1,), np.int32),
        "index": jax.ShapeDtypeStruct((1,), np.int32),
        "mask": jax.ShapeDtypeStruct((1,), np.bool_),
    }
    variables = jax.eval_shape(task.init, jax.random.key(0))
    return set(jax.eval_shape(task.evaluate, variables, task.frozen, batch)) - {"count"}
