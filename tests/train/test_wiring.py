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
from vit_jax_xfer import data
from vit_jax_xfer.config import add_evaluation_set, field_names
from vit_jax_xfer.data.finish import Finish
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.suites.suite_set import SuiteSet
from vit_jax_xfer.tasks import configured_model
from vit_jax_xfer.tasks.placeholder_teacher import zeros_of
from vit_jax_xfer.train import compile as compiling
from vit_jax_xfer.train import dense_benchmarks, loop, suite_evaluation, training_pictures

TEACHER = {"image_size": 8, "width": 16, "depth": 1, "num_heads": 2, "num_classes": 10}
TEACHER |= {"registers": 1, "layer_scale": 0.1}
LIKE_TEACHER = {"model.registers": 1, "model.layer_scale": 0.1}
UNLABELED = {"unlabeled.source": "digits", "unlabeled.batch_size": 8}
SUITES = {"eval.suites": "cifar10", "eval.suites_root": "/x"}
WILLOW = {"eval.benchmarks": ("correspondence:willow:/x",)}
NATIVE_16 = {"model.image_size": 16}  # of images of 8 pixels, so that tables are resized
PATCHES = {"model.class_token": False}
EVA = {"model.rotary": "eva02"}
GREY = {"task.teacher_mean": (0.5, 0.5, 0.5), "task.teacher_std": (0.5, 0.5, 0.5)}
# field: (second value, what else is given). Fields of a task begin with its name, those of a
# network with the start of its name, "model" for a vision transformer's.
SECOND: dict[str, tuple[Any, dict[str, Any]]] = {
    "seed": (1, {}),
    "init_from": ("vit_micro_patch2", {}),
    "init_num_heads": (4, {"init_from": "vit_micro_patch2", **LIKE_TEACHER}),
    "steps": (4, {}),
    "epochs": (2.0, {"steps": None, "epochs": 1.0}),
    "batch_size": (32, {}),
    "data.source": ("folder:/x", {}),
    "data.split": ("train[:900]", {}),
    "data.classes": ("1,2,3,4,5,6", {}),
    "data.per_class": (4, {}),
    "data.subset_seed": (1, {}),
    "data.pipeline": ("normalize(0.5, 0.5)", {}),
    "data.repeats": (3, {}),
    "data.workers": (2, {}),
    "data.threads": (1, {}),
    "data.draft": (True, {}),
    "data.max_broken": (3, {}),
    "data.max_boxes": (0, {}),
    "data.mask_size": (-1, {}),
    "data.tfds_dir": ("/x", {}),
    "unlabeled.source": ("folder:/x", UNLABELED),
    "unlabeled.split": ("train[:900]", UNLABELED),
    "unlabeled.pipeline": ("normalize(0.4, 0.5)", UNLABELED),
    "unlabeled.batch_size": (16, UNLABELED),
    "eval.source": ("folder:/x", {}),
    "eval.split": ("test[:40]", {}),
    "eval.pipeline": ("normalize(0.4, 0.5)", {}),
    "eval.batch_size": (16, {}),
    "eval.every": (2, {}),
    "eval.patience": (1, {"eval.every": 1, "steps": 4}),
    "eval.classes": ("1,2", {}),
    "eval.class_map": ("/nowhere", {}),
    "eval.logits": ("present", {"eval.classes": "1,2"}),
    "eval.sets": ({"other": {"split": "test[:40]"}}, {}),
    "eval.suites": (("cifar10", "pets"), SUITES),
    "eval.suites_root": ("/y", SUITES),
    "eval.suites_every": (1, {**SUITES, "eval.every": 1}),
    "eval.suites_partial": (True, SUITES),
    "eval.suites_class_map": ("/x", SUITES),
    "eval.benchmarks": (WILLOW["eval.benchmarks"], {}),
    "eval.benchmark_size": (16, WILLOW),
    "eval.benchmark_limit": (3, WILLOW),
    "explain.every": (2, {}),
    "explain.images": (3, {"explain.every": 1}),
    "explain.methods": ("rollout", {"explain.every": 1}),
    "mix.mixup": (0.8, {}),
    "mix.cutmix": (1.0, {}),
    "mix.probability": (0.5, {"mix.mixup": 0.8}),
    "mix.switch": (0.75, {"mix.mixup": 0.8, "mix.cutmix": 1.0}),
    "mix.mode": ("pair", {"mix.mixup": 0.8}),
    "mix.group": (2, {"mix.mixup": 0.8}),
    "mix.boxes": ("timm_0_3_2", {"mix.cutmix": 1.0}),
    "optim.name": ("lamb", {}),
    "optim.momentum": (0.5, {"optim.name": "lars"}),
    "optim.trust_coefficient": (0.1, {"optim.name": "lars"}),
    "optim.lr": (0.5, {}),
    "optim.end_lr": (1e-4, {}),
    "optim.lr_for_batch": (8, {}),
    "optim.warmup_steps": (2, {}),
    "optim.warmup_epochs": (0.7, {"optim.warmup_steps": None}),
    "optim.warmup_from": (1e-6, {}),
    "optim.cosine_from": ("start", {}),
    "optim.cosine_epochs": (1.0, {"steps": None, "epochs": 2.0}),
    "optim.moves": ("epoch", {}),
    "optim.poly_power": (0.9, {}),
    "optim.drops": ((0.5,), {}),
    "optim.weight_decay": (0.1, {}),
    "optim.b1": (0.8, {}),
    "optim.b2": (0.95, {}),
    "optim.layer_decay": (0.5, {}),
    "optim.layer_decay_to": ("last_block", {"optim.layer_decay": 0.5}),
    "optim.lr_rules": ((("head/.*", 2.0),), {}),
    "optim.decay_rules": ((("head/kernel", False),), {}),
    "optim.clip_norm": (1.0, {}),
    "optim.accumulate": (2, {}),
    "optim.ema": (0.5, {"optim.ema": 0.9}),
    "optim.ema_start": ("tensorflow", {"optim.ema": 0.9}),
    "optim.skip_nonfinite": (True, {}),
    "mesh.data": (2, {"mesh.data": 4, "mesh.fsdp": -1}),
    "mesh.fsdp": (2, {}),
    "mesh.tensor": (2, {}),
    "mesh.slices": (2, {}),
    "mesh.fsdp_min_elements": (1, {"mesh.fsdp": 2}),
    "mesh.fsdp_frozen": (False, {"mesh.fsdp": 2, "mesh.fsdp_min_elements": 1}),
    "checkpoint.every": (1, {}),
    "checkpoint.minutes": (5.0, {}),
    "checkpoint.fallback": (True, {}),
    "checkpoint.keep_last": (2, {}),
    "checkpoint.keep_best": (2, {}),
    "checkpoint.best_metric": ("loss", {}),
    "log.every": (2, {}),
    "log.progress_seconds": (1.0, {}),
    "log.tensorboard": (True, {}),
    "log.tracker": ("wandb", {}),
    "model.name": ("vit_small_patch14_reg4_dinov2", {}),
    "model.image_size": (16, {}),
    "model.patch_size": (4, {}),
    "model.width": (32, {}),
    "model.depth": (2, {}),
    "model.num_heads": (4, {}),
    "model.mlp_dim": (24, {}),
    "model.num_classes": (5, {}),
    "model.pool": ("cls", {}),
    "model.pool_norm": (False, {}),
    "model.class_token": (False, {}),
    "model.position": ("sincos", {}),
    "model.position_resize": ("bilinear_corners", NATIVE_16),
    "model.norm_eps": (1e-3, {}),
    "model.drop_path": (0.5, {"model.depth": 2}),
    "model.kernel_init": ("xavier_uniform", {}),
    "model.head_init_std": (0.5, {}),
    "model.batch_norm": (True, {}),
    "model.layer_scale": (0.1, {}),
    "model.registers": (2, {}),
    "model.register_position": (True, {"model.registers": 2}),
    "model.class_position": (False, {}),
    "model.distillation_token": (True, {}),
    "model.distillation_head": (False, {"model.distillation_token": True, "model.pool": "cls"}),
    "model.mask_token": (True, {}),
    "model.patch_bias": (False, {}),
    "model.pre_norm": (True, {}),
    "model.activation": ("quick_gelu", {}),
    "model.mlp": ("swiglu", {}),
    "model.mlp_norm": (True, {}),
    "model.qkv_bias": ("none", {}),
    "model.qk_norm": (True, {}),
    "model.attention_norm": (True, {}),
    "model.relative_bias": ("block", {}),
    "model.relative_resize": ("bilinear", {**NATIVE_16, "model.relative_bias": "block"}),
    "model.rotary": ("dinov3", {}),
    "model.rotary_base": (10.0, EVA),
    "model.rotary_grid": (7, EVA),
    "model.window_size": (1, {**PATCHES, "model.depth": 2}),
    "model.window_blocks": ((0,), {**PATCHES, "model.window_size": 1}),
    "model.conv_blocks": ((0,), PATCHES),
    "model.position_size": (16, {}),
    "model.final_norm": (False, {"model.pool": "cls"}),
    "model.head_bias": (False, {}),
    "model.pre_logits": (True, {}),
    "model.parts": ("registers", {"model.name": "student_like"}),
    "model.like": ("vit_micro_patch4", {"model.name": "student_like"}),
    "model.patch_stride": (1, {}),
    "model.drop_remainder": (True, {"model.patch_size": 3}),
    "model.dtype": ("bfloat16", {}),
    "model.product_dtype": ("bfloat16", {}),
    "model.attention": ("blockwise", {}),
    "model.blockwise_above": (4, {}),
    "model.remat": ("full", {}),
    "model.scan": (True, {}),
    "mae.decoder_width": (24, {}),
    "mae.decoder_depth": (2, {}),
    "mae.decoder_num_heads": (4, {}),
    "mae.decoder_mlp_dim": (24, {}),
    "lift.width": (32, {}),
    "lift.patch_size": (4, {}),
    "lift.dtype": ("bfloat16", {}),
    "convex.width": (32, {}),
    "convex.patch_size": (4, {}),
    "convex.dtype": ("bfloat16", {}),
    "convex.hidden": (12, {}),
    "convex.key_width": (12, {}),
    "convex.radius": (1, {}),
    "filter.image_size": (16, {}),
    "filter.num_classes": (5, {}),
    "filter.stem_width": (8, {}),
    "filter.stem_expand": (3, {}),
    "filter.stem_grid": (3, {}),
    "filter.stem_stride": (1, {}),
    "filter.head_width": (24, {}),
    "filter.keep": (3, {}),
    "filter.choose": ("random", {}),
    "filter.attend": ("all", {}),
    "filter.approximate": (True, {}),
    "filter.straight_through": (True, {}),
    "filter.shared_draw": (True, {"model.choose": "random"}),
    "filter.random_evaluation": (True, {"model.choose": "random"}),
    "filter.dropout": (0.5, {}),
    "filter.head_dropout": (0.25, {}),
    "filter.dtype": ("bfloat16", {}),
    "classification.label_smoothing": (0.1, {}),
    "classification.loss": ("binary", {}),
    "masked_pretraining.mask_ratio": (0.5, {}),
    "masked_pretraining.norm_pix_loss": (False, {}),
    "feature_upsampling.backbone": ("vit_micro_patch4", {}),
    "feature_upsampling.backbone_family": ("dino", {}),
    "feature_upsampling.backbone_num_heads": (4, {}),
    "feature_upsampling.backbone_dtype": ("bfloat16", {}),
    "feature_upsampling.backbone_product_dtype": ("bfloat16", {}),
    "feature_upsampling.facet": ("value", {}),
    "feature_upsampling.layer": (1, {}),
    "feature_upsampling.loss": ("l1", {}),
    "feature_upsampling.shrink": ("resize", {}),
    "feature_upsampling.depths": (2, {}),
    "attention_transfer.mode": ("distill_v", {}),
    "attention_transfer.layers": ((), {}),
    "attention_transfer.heads": ((0,), {}),
    "attention_transfer.tokens": ("common", {"model.registers": 2}),
    "attention_transfer.match_layers": ((1,), {}),
    "attention_transfer.match_heads": ("average", {}),
    "attention_transfer.materialize": (True, {}),
    "attention_transfer.average": ("queries", {}),
    "attention_transfer.loss_kernel": ("fused", {}),
    "attention_transfer.share_drop_path": (True, {"model.drop_path": 0.5}),
    "logit_distillation.temperature": (2.0, {}),
    "feature_distillation.normalize": (False, {}),
    "feature_distillation.layers": ((), {}),
    "choice_transfer.mode": ("copy", {}),
    "choice_transfer.layer": (1, {}),  # refused, of a teacher of one block
    "ensemble.members": (("/x",), {}),
}
# Every task with a teacher has these.
TEACHING = {
    "weight": (0.5, {}),
    "unlabeled_weight": (0.5, UNLABELED),
    "label_smoothing": (0.1, {}),
    "teacher": ("vit_micro_patch4", {}),
    "teacher_family": ("dino", {}),
    "teacher_num_heads": (4, {}),
    "teacher_dtype": ("bfloat16", {}),
    "teacher_image_size": (16, {}),
    "teacher_mean": ((0.1, 0.1, 0.1), GREY),
    "teacher_std": ((0.1, 0.1, 0.1), GREY),
}
TEACHERS = ("attention_transfer", "logit_distillation", "feature_distillation")
TEACHERS += ("choice_transfer",)
SECOND |= {f"{task}.{field}": second for task in TEACHERS for field, second in TEACHING.items()}
# What the run refuses before: members that are missing, tokens that the teacher has not.
REFUSED = ("ensemble.members", "attention_transfer.tokens", "model.drop_remainder")
# The config that a field is changed in, by the start of its name; else "scratch".
IN_CONFIG = {
    "unlabeled": "attention_distill",
    "mae": "masked_pretraining",
    "filter": "filter_vit",
    "convex": "convex_lift",
    "attention_transfer": "attention_distill",
    "logit_distillation": "logit_distill",
    "feature_distillation": "feature_distill",
    "choice_transfer": "choice_transfer",
    "masked_pretraining": "masked_pretraining",
    "feature_upsampling": "lift",
    "lift": "lift",
    "ensemble": "ensemble",
}
IN_TASK = {*TEACHERS, "classification", "masked_pretraining", "feature_upsampling", "ensemble"}
NETWORKS = {"mae": "mae", "filter": "filter", "dropout": "filter", "lift": "lift"}
NETWORKS["convex"] = "convex"


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
        self.note(name, plain, rates, {k: x for k, x in more.items() if k != "enabled"})
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

    def _run_step(self, state, frozen, batch):
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
    assert {what for (what, old), (_, new) in pairs if old != new} >= {"program", "batch"}


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
