"""Suites while a run trains: the command's figures, on one device and eight; what is refused."""

import json

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from tests.runs import tiny_config
from tests.suites.imagenet_tree import make_tree
from vit_jax_xfer.config import add_evaluation_set
from vit_jax_xfer.evaluate.classification.suite_scores import score_set, summary
from vit_jax_xfer.suites.imagenet_labels import synsets
from vit_jax_xfer.suites.known_suites import open_suite
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train import loop
from vit_jax_xfer.train.class_names import name_classes
from vit_jax_xfer.train.inputs import open_inputs
from vit_jax_xfer.train.preparation import with_preparation
from vit_jax_xfer.train.sharding import make_mesh
from vit_jax_xfer.train.suite_evaluation import SuiteEvaluation

NAMES = ("imagenet", "real", "a", "v2")
CLASSES = tuple(np.random.default_rng(7).permutation(synsets()).tolist())


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The suites' tree, and an image of each of ImageNet's classes in another order to train on."""
    root = tmp_path_factory.mktemp("suites")
    make_tree(root)
    images = np.zeros((1000, 16, 16, 3), np.uint8)
    arrays = {f"{split}_images": images for split in ("train", "test")}
    arrays |= {f"{split}_labels": np.arange(1000) for split in ("train", "test")}
    np.savez(root / "train.npz", **arrays, class_names=np.array(CLASSES))
    return root


def config_of(root, suites=NAMES, **fields):
    pipeline = "resize(20)|center_crop(16)|normalize(0.5, 0.25)"
    return tiny_config("scratch", **{
        "data__source": f"npz:{root}/train.npz", "data__pipeline": pipeline, "data__per_class": 0,
        "eval__pipeline": pipeline, "eval__batch_size": 8, "model__patch_size": 8,
        "eval__suites": suites, "eval__suites_root": str(root), "eval__suites_partial": True,
        "model__depth": 1, **fields,
    })  # fmt: skip


def opened(config, devices=8):
    """(task, its suites on a mesh)."""
    inputs = open_inputs(config)
    task = build_task(config, inputs.image_shape(), inputs.num_classes)
    name_classes(task, config, inputs.class_names)
    mesh = make_mesh(8, 1, 1)
    if devices == 1:
        mesh = Mesh(mesh.devices[:1], mesh.axis_names, axis_types=mesh.axis_types)
    return task, SuiteEvaluation(task, config, inputs, mesh), inputs


def test_the_figures_are_the_commands_on_one_device_and_eight(root):
    config = config_of(root)
    task, suites, inputs = opened(config)
    variables = jax.jit(task.init)(jax.random.key(0))
    # Of 1,000 outputs the right ones of some images are preferred, so that there are hits.
    (one,) = open_suite("imagenet", root, True)
    liked = np.unique(np.concatenate([one.targets(CLASSES)[:4, 0], [CLASSES.index("n01440764")]]))
    head = variables["params"]["head"]
    head["bias"] = head["bias"].at[liked].set(20.0)
    head["kernel"] = head["kernel"] * 50
    found = suites.figures({"": variables}, {})
    model = with_preparation(task.model, inputs.eval_pipeline, inputs.eval_shape())
    for name in NAMES:
        sets = open_suite(name, root, True)
        figures = {one.name: score_set(model, variables, one, batch_size=8) for one in sets}
        wanted = {f"{name}/{key}": x for key, x in summary(sets, figures).items()}
        own = {key: value for key, value in found.items() if key.startswith(f"{name}/")}
        assert own == wanted
    assert found["imagenet/top1"] > 0 and "a/top1_all" in found and found["real/images"] == 8
    _, alone, _ = opened(config, devices=1)
    assert alone.figures({"": variables}, {}) == found


def test_mean_corruption_error_and_its_name(root, monkeypatch):
    _, suites, _ = opened(config_of(root, "c"))
    assert len(suites.sources()) == 75
    monkeypatch.setattr(
        suites, "_pass", lambda one, *given: [{"images": 1, "top1": 0.5, "top5": 1}]
    )
    found = suites.figures({"ema_": {}}, {})
    sets = open_suite("c", root, True)
    wanted = summary(sets, {one.name: {"images": 1, "top1": 0.5, "top5": 1} for one in sets})
    assert found == {f"c/ema_{name}": value for name, value in wanted.items()}
    assert 0.5 < found["c/ema_mce"] < 0.8


def test_when_they_run(root, monkeypatch):
    _, suites, _ = opened(config_of(root, ("v2",), eval__every=2, eval__suites_every=4))
    monkeypatch.setattr(suites, "figures", lambda states, frozen: {f"{one}x": 1 for one in states})

    class State:
        ema = {"some": 1}

        def variables(self, ema=False):
            return {}

    assert [bool(suites(step, False, State(), {})) for step in (2, 4, 6, 8)] == [0, 1, 0, 1]
    assert suites(6, True, State(), {}) == {"x": 1, "ema_x": 1}
    _, suites, _ = opened(config_of(root, ("v2",), eval__every=2))
    assert suites(4, False, State(), {}) == {}


def test_a_state_and_its_average_are_one_pass_over_each_set(root, monkeypatch):
    _, suites, _ = opened(config_of(root, ("v2", "a")))
    passes = []

    def pass_over(one, several, frozen):
        passes.append((one.one.name, len(several)))
        return [{"images": 1, "top1": x["top1"], "top5": 1} for x in several]

    monkeypatch.setattr(suites, "_pass", pass_over)

    class State:
        ema = {"some": 1}

        def variables(self, ema=False):
            return {"top1": 0.5 - 0.25 * ema}

    found = suites(6, True, State(), {})
    assert sorted(passes) == [("a", 2), ("v2", 2)]
    assert found["v2/top1"] == 0.5 and found["a/ema_top1"] == 0.25
    assert list(found).index("a/top1") < list(found).index("v2/ema_top1")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eval__suites_root": ""}, "eval.suites_root: none given"),
        ({"eval__suites_root": "/nowhere"}, "eval.suites_root: /nowhere is no folder"),
        ({"eval__suites_class_map": '{"x": "y"}'}, "eval.suites_class_map: it renames 'x', …, and"),
        ({"suites": "b"}, "eval.suites: 'b' is none of imagenet, real"),
        ({"suites": "v2, v2"}, "eval.suites: 'v2' is there twice"),
        (
            {"suites": "v2", "eval__suites_partial": False},
            "eval.suites: v2: .*; eval.suites_partial=",
        ),
        ({"suites": "cifar10"}, "eval.suites: cifar10: not below"),
        (
            {"eval__suites_every": 3, "eval__every": 2},
            "eval.suites_every: 3 is no multiple of eval",
        ),
        ({"eval__suites_every": 3}, "eval.suites_every: 3 is no multiple of eval.every, 0"),
        (
            {"suites": "a", "data__classes": "n01440764,n01443537", "eval__split": "test"},
            "eval.suites: a: .*none of the mo",
        ),
    ],
)
def test_what_is_refused(fields, message, root):
    with pytest.raises(ValueError, match=message):
        opened(config_of(root, **fields))


def test_a_name_of_another_set_and_a_task_without_classes(root):
    config = config_of(root, "v2")
    add_evaluation_set(config, "v2")
    with pytest.raises(ValueError, match="eval.suites: 'v2' is a set of eval.sets too"):
        opened(config)
    config = tiny_config("masked_pretraining", eval__suites="v2", eval__suites_root=str(root))
    with pytest.raises(ValueError, match="suites: the task masked_pretraining predicts no classes"):
        opened(config)


def test_a_run_ends_with_the_suites(tmp_path):
    """From the config to result.json, which the command agrees with on the finished model."""
    from vit_jax_xfer.data import open_source
    from vit_jax_xfer.evaluate.classification.__main__ import main

    digits = open_source("digits", "test[:40]")
    from PIL import Image

    for i in range(len(digits)):
        folder = tmp_path / "cifar10/test" / str(digits[i]["label"])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[i]["image"]).save(folder / f"{i}.png")
    config = tiny_config(
        "scratch", eval__suites="cifar10", eval__suites_root=str(tmp_path),
        eval__suites_partial=True, eval__every=2, optim__ema=0.5,
    )  # fmt: skip
    result = loop.run(config, tmp_path / "run")
    assert {"cifar10/top1", "cifar10/ema_top1", "top1"} <= set(result["metrics"])
    rows = map(json.loads, (tmp_path / "run/metrics.jsonl").open())
    evaluated = [row for row in rows if any("cifar10/top1" in name for name in row)]
    assert [row["step"] for row in evaluated] == [result["step"]]
    flags = ["--suites", "cifar10", "--data", str(tmp_path), "--partial", "--batch-size", "8"]
    out = tmp_path / "table.json"
    assert main([str(tmp_path / "run/model"), *flags, "--out", str(out)]) == 0
    (found,) = json.loads(out.read_text())["networks"].values()
    assert found["cifar10"]["top1"] == result["metrics"]["cifar10/top1"]
