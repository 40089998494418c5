"""Named evaluation sets, from a config's fields to figures: by name, through maps, among a few."""

import json
import pathlib
import types

import jax
import numpy as np
import pytest
from PIL import Image

from tests.runs import tiny_config
from vit_jax_xfer import data
from vit_jax_xfer.command_line import config_flag
from vit_jax_xfer.config import add_evaluation_set
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train.evaluation import Evaluator, evaluate_sets, evaluate_state
from vit_jax_xfer.train.inputs import open_inputs
from vit_jax_xfer.train.run_checks import check_batch_sizes, check_task
from vit_jax_xfer.train.sharding import make_mesh
from vit_jax_xfer.train.state import TrainState

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")
PIPELINE = "normalize(0.5, 0.5)"
# Each split's folders, and the class whose images are in each.
SPLITS = {
    "train": {name: name for name in CLASSES},
    "same": {name: name for name in CLASSES},
    "renamed": {f"n{i}": name for i, name in enumerate(reversed(CLASSES))},
    "few": {"gnu": "gnu", "bee": "bee"},
    "unknown": {"ant": "ant", "gnus": "gnu"},
}
MAP = {f"n{i}": name for i, name in enumerate(reversed(CLASSES))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Splits of six 4×4 pictures a class; the same ones of a class in every split."""
    root = tmp_path_factory.mktemp("images")
    for split, folders in SPLITS.items():
        for name, true in folders.items():
            (root / split / name).mkdir(parents=True)
            rng = np.random.default_rng(CLASSES.index(true))
            for i in range(6):
                pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return f"folder:{root}"


def config_of(folder, sets=None, **fields):
    config = tiny_config(
        "scratch",
        data__source=folder,
        data__per_class=0,
        data__pipeline=PIPELINE,
        eval__pipeline=PIPELINE,
        **{"eval__split": "same", **fields},
    )
    for name, given in (sets or {}).items():
        add_evaluation_set(config, name, **given)
    return config


@pytest.fixture(scope="module")
def network(folder):
    """(task, variables) whose logits tell the classes apart somewhat."""
    inputs = open_inputs(config_of(folder))
    task = build_task(inputs.config, inputs.image_shape(), inputs.num_classes)
    variables = jax.jit(task.init)(jax.random.key(0))
    variables["params"]["head"]["kernel"] *= 50
    return task, variables


def figures_of(config, network):
    inputs = open_inputs(config)
    check_task(network[0], inputs, config)
    return evaluate_sets(Evaluator(network[0], make_mesh(8, 1, 1)), network[1], {}, inputs)


def test_a_state_and_its_average_are_one_pass_over_each_set(folder, network, monkeypatch):
    inputs = open_inputs(config_of(folder, {"few": {"split": "few"}, "same": {}}))
    evaluator = Evaluator(network[0], make_mesh(8, 1, 1))
    variables = network[1]
    other = jax.tree.map(lambda x: x * 0.9, variables)
    opened, open_stream = [], inputs.eval_stream
    monkeypatch.setattr(
        inputs, "eval_stream", lambda name: opened.append(name) or open_stream(name)
    )
    state = TrainState(0, variables["params"], {}, None, other["params"], {})
    found = evaluate_state(evaluator, state, {}, inputs)
    assert opened == ["few", "same"]
    alone = evaluate_sets(evaluator, variables, {}, inputs)
    alone |= evaluate_sets(evaluator, other, {}, inputs, "ema_")
    assert found == alone and found["few/loss"] != found["few/ema_loss"]


@pytest.fixture(scope="module")
def truth(folder, network):
    """(logits, labels by the model's numbers) of every image, in the order of "same"."""
    task, variables = network
    source = data.open_source(folder, "same")
    with data.eval_batches(source, PIPELINE, batch_size=len(source)) as batches:
        batch = next(batches)
    return np.asarray(task.model.apply(variables, batch["image"])), batch["label"]


def figures(logits, labels):
    log_probs = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(labels)), labels]
    ranks = (logits > logits[np.arange(len(labels)), labels][:, None]).sum(1)
    return {"loss": -log_probs.mean(), "top1": (ranks < 1).mean(), "top5": (ranks < 5).mean()}


def test_sets_are_matched_by_name(folder, network, truth):
    logits, labels = truth
    few = np.isin(labels, (1, 6))
    among = np.where(np.isin(np.arange(7), (1, 6)), logits, -np.inf)
    sets = {
        "same": {},
        "renamed": {"split": "renamed", "class_map": MAP},
        "few": {"split": "few"},
        "among": {"split": "few", "logits": "present", "batch_size": 8},
    }
    found = figures_of(config_of(folder, sets, checkpoint__best_metric="few/top1"), network)
    wanted = {
        "same": figures(logits, labels),
        "renamed": figures(logits, labels),
        "few": figures(logits[few], labels[few]),
        "among": figures(among[few], labels[few]),
    }
    assert found == pytest.approx(
        {f"{name}/{metric}": x for name, each in wanted.items() for metric, x in each.items()},
        rel=1e-5,
    )
    # Matching by number, or scoring all classes, would have given other figures.
    assert found["few/loss"] > found["among/loss"] and found["among/top1"] > found["few/top1"]
    shifted = np.searchsorted((1, 6), labels[few])
    assert abs(figures(logits[few], shifted)["loss"] - found["few/loss"]) > 0.1


def test_one_set_has_plain_names(folder, network, truth):
    wanted = pytest.approx(figures(*truth), rel=1e-5)
    assert figures_of(config_of(folder), network) == wanted
    assert figures_of(config_of(folder, {"real": {}}), network) == wanted


def test_what_is_said_before_a_run(folder):
    sets = {"few": {"split": "few"}, "among": {"split": "few", "logits": "present"}}
    inputs = open_inputs(config_of(folder, sets, data__classes="ant,bee,gnu"))
    train, left_out, among, few = inputs.overview(labelled=True).splitlines()
    assert train.startswith("train: 18 images, 3 classes (ant, bee, gnu), folder:")
    assert left_out == "  left out: 24 images of other classes or without one"
    lacks = "; it lacks 1 of the model's classes, which are"
    assert few.startswith("eval few: 12 images, 2 classes (bee, gnu), folder:")
    assert few.endswith(f"{lacks} scored all the same: 'ant'")
    assert among.endswith(f"{lacks} not scored: 'ant'")
    assert open_inputs(tiny_config("scratch")).overview(True).endswith("matched by number")


@pytest.mark.parametrize(
    ("sets", "fields", "message"),
    [
        (
            {},
            {"eval__split": "unknown"},
            r"eval.source: folder:.*/unknown: its class 'gnus' is none of the model's 7; the "
            r"nearest are 'gnu', .*; rename it, or give eval.class_map",
        ),
        (
            {"new": {"split": "renamed"}},
            {},
            r"eval.sets.new.source: .*'n0' is none of .*and 6 more .*give eval.sets.new.class_map",
        ),
        ({"new": {"class_map": '{"x": "ant"}'}}, {}, "eval.sets.new.class_map: it renames 'x', …"),
        ({"new": {"logits": "some"}}, {}, "eval.sets.new.logits: 'some' is none of all, present"),
        ({"new": {"split": "old"}}, {}, "eval.sets.new.source: split: got 'old'"),
        ({"new": {"classes": "ant,yak"}}, {}, "eval.sets.new.classes: 'yak' is not in folder:"),
        ({"new": {"batch_size": 12}}, {}, "eval.sets.new.batch_size: 12 is not a multiple"),
        (
            {"a": {}, "b": {}},
            {},
            "checkpoint.best_metric: 'top1' is none of .* a/loss, a/top1, a/top5, b/loss",
        ),
        ({}, {"data__split": "one"}, "data.source: .*/one has one class, 'ant', and this task"),
    ],
)
def test_sets_that_cannot_be_scored(folder, network, sets, fields, message):
    root = folder.removeprefix("folder:")
    if "one" in fields.values():
        one = pathlib.Path(root) / "one" / "ant"
        one.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(one / "0.png")
    config = config_of(folder, sets, **fields)
    with pytest.raises(ValueError, match=message):
        check_batch_sizes(make_mesh(8, 1, 1), config)
        inputs = open_inputs(config)
        check_task(network[0], inputs, config)


def test_tasks_without_labels_need_no_matching_classes(folder):
    config = tiny_config("masked_pretraining", data__source=folder, data__pipeline=PIPELINE)
    config.eval.split, config.eval.pipeline = "unknown", PIPELINE
    inputs = open_inputs(config)
    task = build_task(config, inputs.image_shape(), inputs.num_classes)
    config.checkpoint.best_metric = "loss"
    check_task(task, inputs, config)
    assert "unknown" in inputs.overview(labelled=False)


def test_adding_a_set():
    config = tiny_config("scratch")
    add_evaluation_set(config, "real", split="real", class_map={"a": "b"})
    assert config.is_locked and json.loads(config.eval.sets.real.class_map) == {"a": "b"}
    config.eval.sets.real.split = "other"
    with pytest.raises(ValueError, match="'a/b' is no name"):
        add_evaluation_set(config, "a/b")
    with pytest.raises(ValueError, match="eval.sets.x: it has no field 'spilt', only source, "):
        add_evaluation_set(config, "x", spilt="real")


def test_fields_of_a_set_are_its_own_or_the_usual_ones(folder):
    sets = {
        "own": {"pipeline": "resize(6)|normalize", "batch_size": 24, "classes": "ant,bee"},
        "usual": {},
    }
    found = open_inputs(config_of(folder, sets, eval__split="train[:50%]")).eval_sets
    own, usual = found["own"], found["usual"]
    assert (own.image_shape(), own.batch_size, own.source.class_names) == (
        (6, 6, 3), 24, ("ant", "bee")
    )  # fmt: skip
    assert (usual.image_shape(), usual.batch_size, len(usual.source)) == ((4, 4, 3), 32, 21)
    assert usual.pipeline == PIPELINE and usual.source.class_names == CLASSES


def test_the_command_line_adds_a_set(monkeypatch):
    parser = config_flag._ConfigFile(types.SimpleNamespace(parse=lambda _: tiny_config("scratch")))
    monkeypatch.setattr("sys.argv", ["main", "--config.eval.sets.real.split=test"])
    config = parser.parse(__file__)
    assert list(config.eval.sets) == ["real"] and config.is_locked
    monkeypatch.setattr("sys.argv", ["main", "--config.eval.sets.real.spilt=test"])
    with pytest.raises(ValueError, match="did you mean config.eval.sets.real.split"):
        parser.parse(__file__)
