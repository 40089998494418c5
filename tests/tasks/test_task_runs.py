"""Every task from its shipped config, end to end: a chain of tiny runs on the digits."""

import functools
import json
import math

import jax
import numpy as np
import optax
import pytest

import vit_jax_xfer as vjx
from tests.runs import CONFIGS, FILTERS, UPSAMPLERS, rows, tiny_config
from vit_jax_xfer import data
from vit_jax_xfer.models.transformer.positions import sincos_2d
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train.initial_state import make_init
from vit_jax_xfer.train.inputs import open_inputs
from vit_jax_xfer.train.loop import run
from vit_jax_xfer.train.rules import named_leaves

# Steps so large that the teacher's attention is not the uniform one of a random start.
TEACHER = {"optim__lr": 0.03}
# What each run of the chain starts from: {field: earlier run}.
NEEDS = {
    "finetune": {"init_from": "masked_pretraining"},
    "linear_probe": {"init_from": "masked_pretraining"},
    "attention_copy": {"task__teacher": "masked_pretraining"},
    "attention_distill": {"task__teacher": "masked_pretraining"},
    "feature_distill": {"task__teacher": "masked_pretraining"},
    "choice_transfer": {"task__teacher": "masked_pretraining"},
    "logit_distill": {"task__teacher": "finetune"},
    "finetuned_teacher": {"task__teacher": "finetune"},
    "lift": {"task__backbone": "masked_pretraining"},
    "convex_lift": {"task__backbone": "masked_pretraining"},
}


class Chain:
    """Runs of one folder, each made when it is first asked for."""

    def __init__(self, folder):
        self.folder = folder
        self.result = functools.cache(self._result)

    def _result(self, name):
        if name == "ensemble":
            members = ("finetune", "attention_copy")
            for member in members:
                self.result(member)
            fields = {"task__members": tuple(str(self.folder / member) for member in members)}
        else:
            fields = {field: self.model(run) for field, run in NEEDS.get(name, {}).items()}
            fields |= TEACHER if name == "masked_pretraining" else {}
        return run(tiny_config(name, **fields), self.folder / name)

    def model(self, name):
        """The folder of a run's finished model."""
        self.result(name)
        return str(self.folder / name / "model")


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    return Chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture(scope="module")
def test_images():
    """The images and labels that the tiny runs are evaluated on."""
    config = tiny_config("scratch")
    source = data.open_source("digits", config.eval.split)
    with data.eval_batches(source, config.eval.pipeline, batch_size=len(source)) as batches:
        batch = next(batches)
    return batch["image"], batch["label"]


def cross_entropy(logits, labels):
    return float(-jax.nn.log_softmax(logits)[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("name", CONFIGS)
def test_config_runs_to_its_end(chain, name):
    result = chain.result(name)
    folder = chain.folder / name
    assert result["finished"] and all(map(math.isfinite, result["metrics"].values()))
    found = rows(folder)
    assert found[-1] == (result["step"], "eval", result["metrics"])
    if name == "ensemble":
        return
    assert [row[:2] for row in found[:-1]] == [(step, "train") for step in range(3)]
    assert all(math.isfinite(x) for _, _, values in found for x in values.values())
    assert {"loss", "lr", "grad_norm"} <= found[0][2].keys()
    first, peak, after = (values["lr"] for _, _, values in found[:-1])
    assert first == 0 < peak  # one step of warm-up, then the cosine, or LiFT's constant rate
    assert after == pytest.approx(peak) if name in UPSAMPLERS else 0 < after < peak
    assert json.loads((folder / "result.json").read_text()) == result
    model, variables = vjx.load_pretrained(folder / "model")
    if name in FILTERS:
        assert model.stem_width == 16 and variables["batch_stats"]["stem"]["norm"]["mean"].any()
    else:  # a network that doubles features is as wide as they are
        assert getattr(model, "encoder", model).width == 16
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


def test_finished_model_gives_the_evaluated_figures(chain, test_images):
    images, labels = test_images
    model, variables = vjx.load_pretrained(chain.model("finetune"))
    logits = model.apply(variables, images)
    metrics = chain.result("finetune")["metrics"]
    assert cross_entropy(logits, labels) == pytest.approx(metrics["loss"], abs=1e-5)
    assert float((logits.argmax(-1) == labels).mean()) == pytest.approx(metrics["top1"])


def test_copying_student_predicts_with_its_teacher(chain, test_images):
    images, labels = test_images
    student, variables = vjx.load_pretrained(chain.model("attention_copy"))
    teacher = vjx.load_pretrained(chain.model("masked_pretraining"))
    logits, _ = vjx.transfer_forward(student, variables, *teacher, images, mode="copy")
    evaluated = chain.result("attention_copy")["metrics"]["loss"]
    assert cross_entropy(logits, labels) == pytest.approx(evaluated, abs=1e-5)
    alone = cross_entropy(student.apply(variables, images), labels)
    assert abs(alone - evaluated) > 1e-4


def test_ensemble_averages_probabilities(chain, test_images):
    images, labels = test_images
    tuned, tuned_variables = vjx.load_pretrained(chain.model("finetune"))
    student, variables = vjx.load_pretrained(chain.model("attention_copy"))
    teacher = vjx.load_pretrained(chain.model("masked_pretraining"))
    logits, _ = vjx.transfer_forward(student, variables, *teacher, images, mode="copy")
    members = tuned.apply(tuned_variables, images), logits
    probabilities = np.mean([jax.nn.softmax(member) for member in members], axis=0)
    expected = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert chain.result("ensemble")["metrics"]["loss"] == pytest.approx(expected, abs=1e-5)


def test_linear_probe_changes_only_the_head(chain):
    before = _pretrained(chain)
    _, variables = vjx.load_pretrained(chain.model("linear_probe"))
    changed = {"head/kernel", "head/bias", "head_norm/scale", "head_norm/bias"}
    for name, leaf in named_leaves(variables["params"]):
        assert (name in changed) or np.array_equal(leaf, before[name]), name
    assert not np.array_equal(variables["params"]["head_norm"]["bias"], np.zeros(16))


def test_finetuning_starts_from_the_pretrained_weights(chain, tmp_path):
    config = tiny_config("finetune", init_from=chain.model("masked_pretraining"), optim__lr=0.0)
    run(config, tmp_path)
    before = _pretrained(chain)
    _, variables = vjx.load_pretrained(tmp_path / "model")
    for name, leaf in named_leaves(variables["params"]):
        if not name.startswith("head"):
            np.testing.assert_array_equal(leaf, before[name], err_msg=name)


@pytest.mark.parametrize("name", [*FILTERS, *UPSAMPLERS])
def test_a_run_goes_on_from_a_finished_model_bit_for_bit(chain, name):
    """Parameters and batch statistics; for other classes the head alone starts afresh."""
    fields = {field: chain.model(run) for field, run in NEEDS.get(name, {}).items()}
    config = tiny_config(name, init_from=chain.model(name), optim__ema=0.9, **fields)
    shape = open_inputs(config).image_shape()
    _, saved = vjx.load_pretrained(chain.model(name))
    for classes in (10, 7):
        task = build_task(config, shape, classes)
        init = jax.jit(make_init(task, optax.sgd(0.1), config))
        state = init(jax.random.key(1), task.initial)
        found = dict(named_leaves(jax.device_get(state.variables())))
        assert any("batch_stats" in name for name in found)
        fresh = {leaf for leaf in found if classes == 7 and leaf.startswith("params/head/")}
        assert len(fresh) == (2 if classes == 7 and name in FILTERS else 0)
        for leaf, value in named_leaves(saved):
            if leaf not in fresh:
                np.testing.assert_array_equal(found[leaf], value, err_msg=leaf)
        assert {found[leaf].shape[-1] for leaf in fresh} <= {7}
        assert jax.tree.all(jax.tree.map(np.array_equal, state.ema, state.params))


def test_unlabelled_images_reach_only_the_teachers_loss(chain, tmp_path):
    teacher = chain.model("masked_pretraining")
    run(tiny_config("attention_distill", "digits,unlabeled=1", task__teacher=teacher), tmp_path)
    with_them, without = (
        rows(folder)[0][2] for folder in (tmp_path, chain.folder / "attention_distill")
    )
    assert with_them["label_loss"] == pytest.approx(without["label_loss"], abs=1e-6)
    assert with_them["top1"] == without["top1"]
    assert abs(with_them["teacher_loss"] - without["teacher_loss"]) > 1e-5


def test_average_is_evaluated_and_saved_too(tmp_path):
    result = run(tiny_config("scratch", optim__ema=0.5), tmp_path)
    metrics = result["metrics"]
    assert {"ema_" + name for name in ("loss", "top1", "top5")} < metrics.keys()
    assert metrics["ema_loss"] != metrics["loss"]
    (_, plain), (_, average) = (vjx.load_pretrained(tmp_path / m) for m in ("model", "model_ema"))
    assert not np.array_equal(
        plain["params"]["head"]["kernel"], average["params"]["head"]["kernel"]
    )


def _pretrained(chain):
    """{name: array} of the chain's encoder, its fixed positions as the learned ones' start."""
    _, variables = vjx.load_pretrained(chain.model("masked_pretraining"))
    positions = {"pos_embed": sincos_2d((4, 4), 16, 1)}
    return dict(named_leaves({**variables["params"]["encoder"], **positions}))
