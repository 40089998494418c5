"""The config of every run: what its arm says, on a small variant and on one's own images."""

import dataclasses
import pathlib

import numpy as np
import pytest
from PIL import Image

from tests.runs import save_teacher
from vit_jax_xfer.compare.arms import KINDS, Arm, parse_arms
from vit_jax_xfer.compare.comparison import ComparedImages, Comparison

EVERY = ",".join(KINDS)
TASKS = {
    "scratch": "classification",
    "finetune": "classification",
    "probe": "classification",
    "copy": "attention_transfer",
    "distill": "attention_transfer",
    "feature_distill": "feature_distillation",
    "logit_distill": "logit_distillation",
    "finetuned_teacher": "attention_transfer",
    "ensemble": "ensemble",
}


def on_digits(arms=EVERY, **given):
    usual = {"root": pathlib.Path("out"), "arms": parse_arms(arms), "seeds": 2, "steps": 70}
    usual |= {"images": ComparedImages("digits", 3), "teacher": "mae/model"}
    return Comparison(**{**usual, **given})


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A comparison on a folder of 3 classes × 6 images, whose path has a comma in it."""
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(0)
    for number in range(18):
        folder = root / "my, images" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(folder / f"{number}.png")
    return Comparison(
        root / "out",
        parse_arms(EVERY),
        2,
        ComparedImages(str(root / "my, images"), 2, 16),
        save_teacher(root),
        40,
        ("batch_size=8",),
    )


def test_runs_go_seed_by_seed():
    found = [(arm.name, seed) for arm, seed in on_digits("scratch,copy").runs()]
    assert found == [("scratch", 0), ("copy", 0), ("scratch", 1), ("copy", 1)]


def test_each_arm_is_its_task_with_its_teacher():
    comparison = on_digits()
    configs = {arm.name: comparison.config(arm, 1) for arm in comparison.arms}
    assert {name: config.task.name for name, config in configs.items()} == TASKS
    assert configs["copy"].task.mode == "copy" and configs["distill"].task.mode == "distill"
    for name in ("copy", "distill", "feature_distill"):
        assert configs[name].task.teacher == "mae/model" and not configs[name].init_from
    for name in ("logit_distill", "finetuned_teacher"):
        assert configs[name].task.teacher == "out/fine-tune_seed1/model"
    assert configs["finetune"].init_from == configs["probe"].init_from == "mae/model"
    assert configs["scratch"].init_from == ""
    frozen = [dict(config.optim.lr_rules).get(".*") for config in configs.values()]
    assert [name for name, rate in zip(configs, frozen, strict=True) if rate == 0] == ["probe"]
    assert configs["ensemble"].task.members == (
        "out/attention_distill_seed1",
        "out/fine-tune_seed1",
    )
    for name, config in configs.items():
        if name != "ensemble":
            assert (config.steps, config.seed, config.data.per_class) == (70, 1, 3)
            assert config.data.subset_seed == 1


def test_a_variants_warm_up_stays_where_it_fits():
    long, short = (on_digits("copy", steps=steps) for steps in (500, 20))
    warm_ups = [one.config(Arm("copy"), 0).optim.warmup_steps for one in (long, short)]
    assert warm_ups == [50, 1]  # quickstart's, and the share of 50 of 800


def test_fields_are_all_arms_and_settings_an_arms_own():
    arms = "scratch,copy,distill:mode=distill_q:weight=2:model.depth=3"
    comparison = on_digits(arms, fields=("model.depth=2", "optim.warmup_steps=None"))
    scratch, copy, distill = (comparison.config(arm, 0) for arm in comparison.arms)
    assert (scratch.model.depth, copy.model.depth, distill.model.depth) == (2, 2, 3)
    assert distill.task.mode == "distill_q" and distill.task.weight == 2.0
    assert copy.task.mode == "copy" and scratch.optim.warmup_steps is None


def test_an_ensemble_has_no_use_for_fields_of_networks_and_training():
    fields = ("model.depth=2", "optim.lr=0.5", "eval.batch_size=8", "checkpoint.every=9")
    fields += ("eval.every=9", "log.every=9")
    comparison = on_digits("distill,finetune,ensemble", fields=fields)
    *others, ensemble = (comparison.config(arm, 0) for arm in comparison.arms)
    assert [one.model.depth for one in others] == [2, 2]
    assert list(ensemble.model) == ["name"] and ensemble.optim.lr == 1e-3
    assert ensemble.eval.batch_size == 8


@pytest.mark.parametrize(
    "given, said",
    [
        ({"arms": "scratch:weight=2"}, r"scratch weight=2: .*no field config\.weight"),
        ({"fields": ("task.mode=copy",)}, r"scratch: .*no field config\.task\.mode"),
        ({"fields": ("batch_size=many",)}, "scratch: .*batch_size=many"),
        (
            {"fields": ("eval.sets.a.split=test", "eval.sets.b.split=test")},
            "scratch: eval.sets: a comparison tells one top-1",
        ),
        ({"arms": "distill,finetune,ensemble:optim.lr=1"}, "ensemble optim.lr=1: optim.lr: the ta"),
        ({"fields": ("eval.patience=2",)}, "scratch: eval.patience: .* no evaluation chose"),
        ({"fields": ("batch_size=None",)}, "scratch: .*batch_size=None: it can't be unset"),
        (
            {"images": ComparedImages("digits", 3, 224)},
            "^--image-size: digits has a size of its own",
        ),
    ],
)
def test_what_no_arm_has_is_refused(given, said):
    comparison = on_digits(**{"arms": "scratch", **given})
    with pytest.raises(ValueError, match=said):
        comparison.config(comparison.arms[-1], 0)


def test_own_images_are_alike_for_all_arms(own):
    configs = {arm.name: own.config(arm, 1) for arm in own.arms}
    assert {name: config.task.name for name, config in configs.items()} == TASKS
    source = f"folder:{own.images.source}"
    normalised = {config.eval.pipeline.rpartition("|")[2] for config in configs.values()}
    assert len(normalised) == 1 and "0.5" in normalised.pop()  # the teacher's, not ImageNet's
    assert len({config.eval.pipeline for config in configs.values()}) == 1
    for name, config in configs.items():
        assert config.data.source == source and config.batch_size == 8
        assert config.eval.split == configs["scratch"].eval.split != config.data.split
        if name == "ensemble":
            continue
        assert (config.steps, config.optim.warmup_steps, config.eval.every) == (40, 2, 8)
        assert (config.seed, config.data.per_class, config.data.subset_seed) == (1, 2, 1)
        assert config.checkpoint.keep_best == 0  # nothing is chosen by the evaluation
        assert config.model.name == "student_like"
    assert configs["scratch"].model.like == own.teacher
    assert configs["copy"].task.teacher == configs["finetune"].init_from == own.teacher
    assert configs["logit_distill"].task.teacher.endswith("out/fine-tune_seed1/model")
    without = Comparison(own.root, (Arm("scratch"),), 1, own.images, own.teacher)
    steps = without.config(Arm("scratch"), 0).steps
    assert steps > 40 and without.config(Arm("scratch"), 0).optim.warmup_steps == steps // 20


@pytest.mark.parametrize(
    "images, teacher, said",
    [
        ({"source": "no/images"}, None, "^--data: .*no/images"),
        ({"labels": 9}, None, "^--labels: class 'a' has . images to learn from"),
        ({}, "no/teacher", "^--teacher: .*no/teacher"),
    ],
)
def test_what_is_wrong_with_them_is_said_by_the_flag(own, images, teacher, said):
    images = dataclasses.replace(own.images, **images)
    wrong = dataclasses.replace(own, images=images, teacher=teacher or own.teacher)
    for name in ("scratch", "copy", "finetune"):
        with pytest.raises(ValueError, match=said):
            wrong.config(Arm(name), 0)
