"""Data sets through a task: sums over images on the device, divided once at the end."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from vit_jax_xfer.compiler import Jitted
from vit_jax_xfer.data.finish import NOTHING, Finish
from vit_jax_xfer.tasks.task import Batch, Scorer, Task, Variables
from vit_jax_xfer.train.evaluation_sets import EvaluationSet
from vit_jax_xfer.train.inputs import Inputs
from vit_jax_xfer.train.sharding import place, replicated, to_device
from vit_jax_xfer.train.state import TrainState

Batches = Iterable[dict[str, np.ndarray]]


class Evaluator:
    """Runs `task.evaluate` over batches on a mesh; compiled at the first call.

    watched: gives the batches on, one after the other; what it raises ends the evaluation.
    """

    def __init__(self, task: Task, mesh: Mesh, watched: Callable[[Batches], Batches] = iter):
        self._task, self._mesh, self._watched = task, mesh, watched

        def sums(
            variables: Variables, frozen: Variables, batch: Batch, finish: Finish
        ) -> dict[str, jax.Array]:
            found = task.evaluate(variables, frozen, finish(batch))
            if "rows" in found:
                of_image = {name: batch[name] for name in ("index", "mask")}
                found = {**found, "rows": {**found["rows"], **of_image}}
            return found

        backend = mesh.devices.flat[0].platform
        self._sums = Jitted(sums, backend, static_argnums=(3,), out_shardings=replicated(mesh))

    def trace(
        self, variables: Variables, frozen: Variables, batch: Batch, finish: Finish = NOTHING
    ) -> jax.stages.Traced:
        """The program for one batch, before any compiler saw it; shapes with shardings will do."""
        with jax.set_mesh(self._mesh):  # for models/transformer/batch_axes.py
            return self._sums.trace(variables, frozen, batch, finish)

    def __call__(
        self,
        variables: Variables,
        frozen: Variables,
        batches: Batches,
        classes: EvaluationSet | None = None,
    ) -> dict[str, float]:
        """Each sum of `sums` divided by the number of images, as floats, and the task's figures.

        Of a set also "broken", how many of its images can't be read and are in no figure, where
        there are some.
        """
        return self.figures_of_each([variables], frozen, batches, classes)[0]

    def figures_of_each(
        self,
        several: Sequence[Variables],
        frozen: Variables,
        batches: Batches,
        classes: EvaluationSet | None = None,
    ) -> list[dict[str, float]]:
        """The figures of several networks of one kind, all in one pass over the batches."""
        scorers: list[Scorer | None] = [None] * len(several)
        if classes is not None and self._task.needs_labels:
            scorers = [self._task.scorer(classes.source, classes.match) for _ in several]
        added = self.sums_of_each(several, frozen, batches, classes, scorers)
        return [self._figures(*one, classes) for one in zip(added, scorers, strict=True)]

    def _figures(
        self, added: dict[str, Any], scorer: Scorer | None, classes: EvaluationSet | None
    ) -> dict[str, float]:
        count = added.pop("count")
        arrays = {name: added.pop(name) for name in list(added) if np.ndim(added[name])}
        results = {name: value / count for name, value in added.items()}
        if arrays:
            results |= self._task.figures(arrays)
        if scorer is not None:
            results |= scorer.figures()
        if classes is not None and (broken := len(classes.source) - round(count)) > 0:
            results["broken"] = broken
        return results

    def sums(
        self,
        variables: Variables,
        frozen: Variables,
        batches: Batches,
        classes: EvaluationSet | None = None,
        scorer: Scorer | None = None,
    ) -> dict[str, Any]:
        """The task's sums over all images that can be read, and their number as "count".

        Floats, and arrays float64 where the task has such. batches: this process's rows, padded to
        one size, with "mask" false on padding. classes: the set whose numbers the labels are and
        whose pipeline leaves the images to be finished; None = labels are the model's, images
        finished. scorer: gets what the task tells of each image.
        ValueError without an image.
        """
        return self.sums_of_each([variables], frozen, batches, classes, [scorer])[0]

    def sums_of_each(
        self,
        several: Sequence[Variables],
        frozen: Variables,
        batches: Batches,
        classes: EvaluationSet | None = None,
        scorers: Sequence[Scorer | None] | None = None,
    ) -> list[dict[str, Any]]:
        """As `sums`, of several networks in one pass: an image is read, prepared and sent once.

        scorers: one for each network, None = none.
        """
        scorers = scorers or [None] * len(several)
        totals: list[list[dict[str, Any]]] = [[] for _ in several]
        scored, finish = None, NOTHING if classes is None else classes.finish
        labelled = classes is not None and self._task.needs_labels
        if labelled:
            scored = classes.scored(self._task.model.num_classes)
            scored = None if scored is None else place(scored, replicated(self._mesh))
        for number, rows in enumerate(self._watched(batches)):
            local = len(rows["mask"])
            start = (number * jax.process_count() + jax.process_index()) * local
            rows = {**rows, "index": np.arange(start, start + local, dtype=np.int32)}
            if labelled:
                rows |= classes.in_models_numbers(rows)
            placed = to_device(rows, self._mesh)
            if scored is not None:
                placed = {**placed, "scored": scored}
            for variables, scorer, total in zip(several, scorers, totals, strict=True):
                with jax.set_mesh(self._mesh):
                    found = dict(self._sums(variables, frozen, placed, finish))
                told = found.pop("rows", {})
                if scorer is not None:
                    told = jax.device_get(told)
                    scorer.add({name: part[told["mask"]] for name, part in told.items()})
                total.append(found)
            # Two batches in flight keep the device busy; more would pile up in its memory.
            jax.block_until_ready([total[-2:-1] for total in totals])
        return [_added(total) for total in totals]


def _added(batches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums of all batches, in float64: a float32 total loses digits over a large data set."""
    host = [jax.device_get(sums) for sums in batches]
    added = {name: sum(_wide(sums[name]) for sums in host) for name in host[0]}
    if not added["count"]:
        raise ValueError("there is no image to evaluate that can be read")
    return added


def _wide(value: Any) -> Any:
    """A number as a float, an array in float64."""
    return np.asarray(value, np.float64) if np.ndim(value) else float(value)


def evaluate_state(
    evaluator: Evaluator, state: TrainState, frozen: Variables, inputs: Inputs
) -> dict[str, float]:
    """The evaluation sets through a state's parameters, and through their average.

    Names are "top1" and "ema_top1", of several sets "real/top1" and "real/ema_top1".
    """
    return _evaluate_each(evaluator, states_of(state), frozen, inputs)


def states_of(state: TrainState) -> dict[str, Variables]:
    """What is evaluated of a state, by what stands before its figures' names."""
    return {"": state.variables()} | ({"ema_": state.variables(ema=True)} if state.ema else {})


def evaluate_sets(
    evaluator: Evaluator, variables: Variables, frozen: Variables, inputs: Inputs, which: str = ""
) -> dict[str, float]:
    """Every evaluation set: {its prefix + `which` + metric: figure}."""
    return _evaluate_each(evaluator, {which: variables}, frozen, inputs)


def _evaluate_each(
    evaluator: Evaluator, states: Mapping[str, Variables], frozen: Variables, inputs: Inputs
) -> dict[str, float]:
    results: dict[str, dict[str, float]] = {which: {} for which in states}
    for name, chosen in inputs.eval_sets.items():
        with inputs.eval_stream(name) as batches:
            found = evaluator.figures_of_each(list(states.values()), frozen, batches, chosen)
            inputs.tell_broken(batches)
        for which, figures in zip(states, found, strict=True):
            prefix = f"{chosen.prefix}{which}"
            results[which] |= {f"{prefix}{metric}": value for metric, value in figures.items()}
    return {name: value for figures in results.values() for name, value in figures.items()}


def show(results: dict[str, float]) -> str:
    """Metrics on one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in results.items())
