"""Every field of a config changes what a run does: its step, data, schedule, files or a refusal.

The loop itself is run, with nothing compiled and nothing computed: what it traces, opens, reads and
is built with is noted. A field that stands in no table here fails, and so does one without effect.
"""

import contextlib
import functools
import hashlib
import re
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from tests.runs import CONFIGS, tiny_config
from tests.train.second_values import (
    IN_CONFIG,
    IN_TASK,
    NETWORKS,
    REFUSED,
    SECOND,
    TEACHER,
    TEACHERS,
    UNLABELED,
)
from vit_jax_xfer import data
from vit_jax_xfer.config import add_evaluation_set, field_names
from vit_jax_xfer.data.finish import Finish
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.suites.suite_set import SuiteSet
from vit_jax_xfer.tasks import configured_model
from vit_jax_xfer.tasks.placeholder_teacher import zeros_of
from vit_jax_xfer.train import (
    class_names,
    dense_benchmarks,
    loop,
    suite_evaluation,
    training_pictures,
)
from vit_jax_xfer.train import compile as compiling


class Different(BaseException):
    """Ends a run that has done something else than the one it is compared with."""


class Noted:
    """What a run does, in order; everything that would compute is put out of the way.

    usual: what another run did, None = nothing to compare. At the first difference the run ends.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, trace: Callable[..., Any], usual: list[Any] | None
    ):
        self.found: list[Any] = []
        self._usual = usual
        self._trace, self._open = trace, data.open_source
        patch.setattr(loop, "SaveTimer", self.watched("SaveTimer", loop.SaveTimer))
        patch.setattr(loop, "check_state", lambda *given: None)
        patch.setattr(loop, "check_tracker", lambda name: None)  # whether or not it is installed
        patch.setattr(loop, "open_tracker", lambda name, *given: self.note("tracker", name))
        for name in ("Checkpoints", "Clock", "MetricWriter", "StepLog"):
            patch.setattr(loop, name, functools.partial(self._object, name))
        patch.setattr(loop, "check_task", lambda *given: None)  # traces an evaluation
        patch.setattr(loop, "check_memory", lambda *given: None)
        patch.setattr(loop, "overview", lambda *given, **more: "")
        patch.setattr(loop, "trace_step", self._step)
        patch.setattr(loop, "evaluate_state", self._evaluate)
        for name in ("save_finished", "save_best"):
            patch.setattr(loop, name, lambda *given, name=name: self.note(name))
        patch.setattr(loop, "start_or_resume", self._start)
        patch.setattr(loop, "make_mesh", self.watched("mesh", loop.make_mesh))
        patch.setattr(loop, "build_task", functools.partial(loop.build_task, load=self._load))
        patch.setattr(configured_model, "load_weights", self._load)
        nameless = types.SimpleNamespace(class_names=None)
        patch.setattr(class_names, "read_network", lambda *given: nameless)
        patch.setattr(compiling.Program, "compile", lambda program: self._run_step)
        patch.setattr(dense_benchmarks, "open_benchmark", self._benchmark)
        patch.setattr(dense_benchmarks.DenseBenchmarks, "_check", lambda opened: None)
        patch.setattr(dense_benchmarks.DenseBenchmarks, "__call__", lambda *given: {})
        patch.setattr(suite_evaluation, "open_suite", self._suite)
        patch.setattr(suite_evaluation, "incomplete", lambda *given: "")
        patch.setattr(suite_evaluation.SuiteEvaluation, "figures", self._suite_figures)
        patch.setattr(training_pictures.TrainingPictures, "_check", lambda opened, task: None)
        patch.setattr(
            training_pictures.TrainingPictures, "draw", lambda one, *given: self._draw(one, *given)
        )
        patch.setattr(data, "open_source", self._source)
        for name in ("train_stream", "eval_batches"):
            patch.setattr(data, name, self._without_workers(name, getattr(data, name)))

    def note(self, what: str, *values: Any) -> None:
        self.found.append((what, re.sub(r"0x[0-9a-f]+", "", repr(values))))
        at = len(self.found)
        if self._usual is not None and self.found[at - 1 :] != self._usual[at - 1 : at]:
            raise Different

    def watched(self, what, function):
        def call(*given, **more):
            self.note(what, given, more)
            return function(*given, **more)

        return call

    def _object(self, name, *given, **more):
        plain = [x for x in given if isinstance(x, int | float | str | None)]
        rates = [[float(x(step)) for step in range(6)] for x in given if callable(x)]
        # "evaluation" is a digest of fields, which must show in what they do.
        told = {k: x for k, x in more.items() if k not in ("enabled", "evaluation")}
        self.note(name, plain, rates, told)
        return Silent(functools.partial(self.note, name))

    def _step(self, task, config, *given, **more):
        # A tenth of the step's trace, and most fields of a network show in it.
        self.note("variables", jax.eval_shape(task.init, jax.random.key(0)))
        program = self._trace(task, config, *given, **more)
        traced = program.traced.jaxpr
        self.note("program", str(traced), *map(digest, traced.consts))
        self._starts = lambda: jax.make_jaxpr(program.init)(jax.random.key(0), program.loaded)
        places = jax.tree.map(lambda x: x.spec, (program.shardings, program.frozen_shardings))
        self.note("shardings", program.frozen_shapes, places)
        return program

    def starts(self) -> str:
        """How the state begins, which few fields change."""
        return re.sub(r"0x[0-9a-f]+", "", str(self._starts()))

    def _start(self, checkpoints, init, loaded, shapes, shardings, config, *given):
        self.note("start", config.checkpoint.fallback)
        return shapes, 0, {"clock": {"elapsed": 0.0, "step": 0}}

    def _run_step(self, state, frozen, batch, key):
        self.note("key", digest(key))
        self.note("batch", {name: digest(array) for name, array in batch.items()})
        return state, {}

    def _evaluate(self, evaluator, state, frozen, inputs):
        for name, one in inputs.eval_sets.items():
            with inputs.eval_stream(name) as batches:
                batch = next(batches)
            shown = {key: digest(array) for key, array in batch.items()}
            self.note("evaluation", name, len(one.source), one.scored(inputs.num_classes), shown)
            self.note("finish", name, one.finish)
        return {"loss": 1.0, "top1": 0.5}

    def _draw(self, pictures, step, *given):
        self.note("picture", step, digest(pictures._images.prepared), pictures._methods)
        return {}

    def _source(self, spec, split, **more):
        self.note("source", spec, split, more)
        return self._open("digits", split)

    def _without_workers(self, name, function):
        def call(*given, workers=0, **more):
            self.note(name, workers, more["max_broken"], more["threads"], more.get("draft"))
            return function(*given, **more)

        return call

    def _load(self, field, path, num_heads=0, family=""):
        self.note("weights", field, path, num_heads, family)
        model = create_model(path, **TEACHER, patch_size=2)
        return model, zeros_of(model)

    def _suite(self, name, *given):
        self.note("suite", name, given)
        return [SuiteSet(name, self._open("digits", "test"))]

    def _suite_figures(self, *given):
        self.note("suites")
        return {}

    def _benchmark(self, spec, size, limit=None, *given, **more):
        self.note("benchmark", spec, size, limit)
        return types.SimpleNamespace(name=spec, size=size)


class Silent:
    """In place of a checkpoint, clock or log: notes which of its methods were called."""

    def __init__(self, note):
        self._note = note

    def __getattr__(self, name):
        return lambda *given, **more: self._note(name, [x for x in given if isinstance(x, int)])

    def waiting(self):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def digest(array: Any) -> str:
    """Of an array's shape, type and bytes."""
    array = np.asarray(array)
    return f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()[:12]}"


def config_of(field: str, given: dict[str, Any], value: Any = None):
    """The config that a field is changed in; `value` is put in the field."""
    start, last = field.split(".")[0], field.split(".")[-1]
    of_teacher = last in ("parts", "like", "fsdp_frozen")
    name = IN_CONFIG.get(start, "attention_distill" if of_teacher else "scratch")
    fields = dict(given)
    if start in ("unlabeled", *TEACHERS) or of_teacher:
        fields = {"task.teacher": "vit_micro_patch2", **fields}
        if start != "choice_transfer":
            fields = {"model.registers": 1, **fields}
    if name in ("lift", "convex_lift"):
        fields = {"task.backbone": "vit_micro_patch2", **fields}
    if name not in ("filter_vit", "choice_transfer", "lift", "convex_lift", "ensemble"):
        fields = {"model.depth": 1, **fields}
    if last in ("parts", "like"):
        fields |= dict.fromkeys(
            ("model.width", "model.num_heads", "model.patch_size", "model.registers")
        )
    if value is not None:
        section = "task." if start in IN_TASK else "model." if start in NETWORKS else ""
        fields[f"{section}{last}" if section else field] = value
    sets = fields.pop("eval.sets", {})
    config = tiny_config(name, **{key.replace(".", "__"): x for key, x in fields.items()})
    for one, own in sets.items():
        add_evaluation_set(config, one, **own)
    return config


trace_once = functools.cache(lambda key: [])


def trace_by_sections(task, config, *given):
    """`trace_step`, which reads these sections alone: traced once for all runs that share them."""
    sections = ("model", "task", "optim", "mesh", "unlabeled", "mix", "seed")
    sections += ("batch_size", "steps")
    shapes = {name: (x.shape, x.dtype) for name, x in given[-1].items()}
    key = config.epochs, shapes, Finish.of(config.data.pipeline)
    key += tuple(repr(config[name]) for name in sections)
    known = trace_once(str((key, type(task.model), task.model)))
    if not known:
        known.append(compiling.trace_step(task, config, *given))
    return known[0]


def noted(config, folder, usual=None) -> Noted:
    """What the loop does with a config, up to its first difference from what is usual, if given.

    A refusal is noted as such.
    """
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Different):
        run = Noted(patch, trace_by_sections, usual)
        try:
            loop.run(config, folder)
        except ValueError as error:
            run.note("refused", str(error))
    return run


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """What a run of a config does; fields of one section share it."""
    known = {}

    def call(config):
        key = config.to_json()
        if key not in known:
            known[key] = noted(config, tmp_path_factory.mktemp("usual") / "run")
        return known[key]

    return call


@pytest.mark.parametrize("field", SECOND)
def test_a_field_changes_what_a_run_does(field, usual, tmp_path):
    value, given = SECOND[field]
    before = usual(config_of(field, given))
    if field not in REFUSED:
        assert before.found[-1][0] != "refused", before.found[-1]
    after = noted(config_of(field, given, value), tmp_path / "run", before.found)
    assert after.found != before.found or after.starts() != before.starts()


def test_the_seed_is_that_of_the_step_and_of_the_data(usual, tmp_path):
    before = usual(config_of("seed", {}))
    after = noted(config_of("seed", {}, 1), tmp_path / "run")
    pairs = zip(before.found, after.found, strict=True)
    other = {what for (what, old), (_, new) in pairs if old != new}
    assert other >= {"key", "batch"} and "program" not in other  # which all seeds share


def test_a_run_does_the_same_twice(tmp_path):
    config = config_of("attention_transfer.mode", UNLABELED)
    found = []
    for i in range(2):
        trace_once.cache_clear()
        found.append(noted(config, tmp_path / str(i)))
    assert found[0].found == found[1].found and found[0].starts() == found[1].starts()
    kinds = {what for what, _ in found[0].found}
    assert kinds >= {
        "program",
        "batch",
        "evaluation",
        "source",
        "Checkpoints",
        "StepLog",
        "save_finished",
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_has_a_second_value(name):
    config = tiny_config(name)
    network = NETWORKS.get(config.model.name.split("_")[0], "model")
    names = field_names(config)
    for field in names:
        section, _, last = field.partition(".")
        if last == "name" and section in ("task", "model"):
            continue
        if any(name.startswith(f"{field}.") for name in names):
            continue  # a whole section
        start = {"task": config.task.name, "model": network}.get(section)
        known = [field if start is None else f"{start}.{last}"]
        known += [field] * (network == "mae")  # an encoder's fields are a vision transformer's
        assert any(one in SECOND for one in known), field
