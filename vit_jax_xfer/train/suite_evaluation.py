"""Published suites while a run trains: the figures that the command gives on its finished model."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from vit_jax_xfer import data
from vit_jax_xfer.evaluate.classification.suite_scores import (
    Figures,
    hit_sums,
    shares,
    suite_pipeline,
    summary,
)
from vit_jax_xfer.suites.known_suites import incomplete, open_suite
from vit_jax_xfer.suites.suite_set import SuiteSet
from vit_jax_xfer.tasks.task import Batch, Task, Variables
from vit_jax_xfer.train.console import say
from vit_jax_xfer.train.evaluation import Batches, Evaluator, states_of
from vit_jax_xfer.train.evaluation_sets import EvaluationSet
from vit_jax_xfer.train.inputs import Inputs
from vit_jax_xfer.train.preparation import with_preparation
from vit_jax_xfer.train.state import TrainState


@dataclasses.dataclass
class SuiteImages(EvaluationSet):
    """A set of a suite, as an evaluation set whose labels are the outputs that are right."""

    one: SuiteSet

    @functools.cached_property
    def right(self) -> np.ndarray:
        """(N, M) int32, see `SuiteSet.targets`."""
        return self.one.targets(self.model_classes)

    def labels(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """(B, M) int32 of a batch's rows, -1 on padding."""
        right = self.right[np.minimum(rows["index"], len(self.right) - 1)]
        return np.where(rows["mask"][:, None], right, -1)

    def scored(self, num_classes: int) -> np.ndarray:
        """(num_classes,) bool: the outputs that can be predicted."""
        some = self.one.predictable(self.model_classes)
        found = np.ones(num_classes, bool)
        if some is not None:
            found[:] = False
            found[: len(some)] = some
        return found


@dataclasses.dataclass
class _Hits:
    """A run's task, whose evaluation counts hits among several right classes."""

    task: Task
    needs_labels: bool = True

    @property
    def model(self) -> Any:
        return self.task.model

    def evaluate(
        self, variables: Variables, frozen: Variables, batch: Batch
    ) -> dict[str, jax.Array]:
        logits = self.task.predict(variables, frozen, batch["image"])
        return {**hit_sums(logits, batch["label"], batch["scored"]), "count": batch["mask"].sum()}


class SuiteEvaluation:
    """The suites of `config.eval.suites`, opened; one program, compiled at the first call.

    They run at the run's end, and at evaluations whose step `eval.suites_every` divides.
    ValueError, naming the field, for suites that are not there or not whole, for classes that the
    model has not, and for a task that predicts none.
    """

    def __init__(
        self,
        task: Task,
        config: ConfigDict,
        inputs: Inputs,
        mesh: Mesh,
        watched: Callable[[Batches], Batches] = iter,
    ):
        self._every, self._inputs = config.eval.suites_every, inputs
        names = _names(config)
        _check_fields(names, task, config)
        self._evaluator = Evaluator(_Hits(task), mesh, watched)  # type: ignore[arg-type]
        self._suites: dict[str, list[SuiteImages]] = {}
        for name in names:
            try:
                how = config.eval.suites_partial, config.eval.suites_class_map
                sets = open_suite(name, config.eval.suites_root, *how)
                self._suites[name] = [self._prepared(task, config, one) for one in sets]
            except (ValueError, OSError) as error:
                raise ValueError(_by_field(str(error))) from None
            self._tell(name, sets)

    def _prepared(self, task: Task, config: ConfigDict, one: SuiteSet) -> SuiteImages:
        inputs = self._inputs
        model = with_preparation(task.model, inputs.eval_pipeline, inputs.eval_shape())
        found = SuiteImages(
            "eval.suites",
            f"{one.name}/",
            one.source,
            suite_pipeline(model, one),
            config.eval.batch_size or config.batch_size,
            "all",
            inputs.class_names,
            one,
        )
        _ = found.right, found.scored(task.model.num_classes)  # raises where a class is none
        return found

    def sources(self) -> dict[str, data.Source]:
        """The images of each set, by what a message calls them."""
        return {
            f"eval.suites: {one.one.name}": one.source
            for sets in self._suites.values()
            for one in sets
        }

    def __call__(
        self, step: int, last: bool, state: TrainState, frozen: Variables
    ) -> dict[str, float]:
        """{"a/top1": …, "a/ema_top1": …} of a state at a step, {} where they are not due."""
        if not last and (not self._every or step % self._every):
            return {}
        return self.figures(states_of(state), frozen)

    def figures(self, states: Mapping[str, Variables], frozen: Variables) -> dict[str, float]:
        """Every suite's figures of each state: {"a/top1": …, "c/ema_mce": …}.

        states: by what stands before their figures' names, see `states_of`. All go through a set in
        one pass.
        """
        results: dict[str, dict[str, float]] = {which: {} for which in states}
        for suite, sets in self._suites.items():
            of_sets = [self._pass(one, list(states.values()), frozen) for one in sets]
            for which, of_state in zip(states, zip(*of_sets, strict=True), strict=True):
                figures = {one.one.name: each for one, each in zip(sets, of_state, strict=True)}
                found = summary([one.one for one in sets], figures)
                results[which] |= {f"{suite}/{which}{name}": x for name, x in found.items()}
        return {name: x for figures in results.values() for name, x in figures.items()}

    def _pass(
        self, one: SuiteImages, several: Sequence[Variables], frozen: Variables
    ) -> list[Figures]:
        """A set's figures of each of several networks."""
        with self._inputs.stream_of(one) as batches:
            found = self._evaluator.sums_of_each(several, frozen, batches, one)
            self._inputs.tell_broken(batches)
        for sums in found:
            del sums["count"]
        return [shares(sums, one.one) for sums in found]

    def _tell(self, name: str, sets: list[SuiteSet]) -> None:
        images = sum(len(one.source) for one in sets)
        lacking = incomplete(name, sets)
        say(f"suite {name}: {images:,} images" + (f", a part: {lacking}" if lacking else ""))
        for text in [text for one in sets for text in one.source.left_out][:4]:
            say(f"  left out: {text}")


def _names(config: ConfigDict) -> tuple[str, ...]:
    given = config.eval.suites
    listed = given.split(",") if isinstance(given, str) else given
    return tuple(name for one in listed if (name := str(one).strip()))


def _by_field(text: str) -> str:
    """An error of a suite, with the config's fields in place of the command's flags."""
    text = text.replace("--partial takes", "eval.suites_partial=True takes")
    kind, colon, rest = text.partition(":")
    field = {
        "suites": "eval.suites",
        "data": "eval.suites_root",
        "class_map": "eval.suites_class_map",
    }.get(kind)
    return f"{field}:{rest}" if field else f"eval.suites: {text}"


def _check_fields(names: tuple[str, ...], task: Task, config: ConfigDict) -> None:
    section = config.eval
    if not names:
        return
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"eval.suites: {twice!r} is there twice")
    if not section.suites_root:
        raise ValueError("eval.suites_root: none given; it is the folder that holds the suites")
    if type(task).predict is Task.predict:
        raise ValueError(f"eval.suites: the task {task.name} predicts no classes")
    same = sorted(set(names) & set(section.sets))
    if same:
        raise ValueError(f"eval.suites: {same[0]!r} is a set of eval.sets too; rename that")
    every, evaluations = section.suites_every, section.every
    if every < 0 or (every and (not evaluations or every % evaluations)):
        raise ValueError(
            f"eval.suites_every: {every} is no multiple of eval.every, {evaluations}, at which the "
            "run is evaluated; 0 = at the end only"
        )
