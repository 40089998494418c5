"""One's own images as a form of every config: what it makes of a folder, and runs of it."""

import json
import re
import shutil
import sys
import warnings

import numpy as np
import pytest
from PIL import Image

import vit_jax_xfer as vjx
from tests.runs import (
    DENSE,
    FILTERS,
    UPSAMPLERS,
    finish,
    save_teacher,
    start,
    tiny_fields,
)
from vit_jax_xfer import data
from vit_jax_xfer.experiments.config_files import config_names, load_config
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.pretrained.loading_notes import LoadingNote
from vit_jax_xfer.tasks import configured_model
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.placeholder_teacher import zeros_of
from vit_jax_xfer.train.loop import run
from vit_jax_xfer.train.run_plan import _task as planned_task
from vit_jax_xfer.train.schedule import learning_rates, make_run_schedule

SIZE = 64
CLASSES, IMAGES = ("ant", "bee", "cat"), 6
# Small networks in place of the usual ones.
STUDENTS = {
    **{name: "vit_micro_patch8" for name in ("scratch", "deit", "deit3")},
    **{"masked_pretraining": "mae_vit_micro_patch8"},
    **{name: f"{name}_micro" for name in FILTERS},
}
# Whose network has the shape of the weights that it starts or learns from.
LIKE = ("finetune", "linear_probe", "attention_copy", "attention_distill", "feature_distill")
LIKE += ("logit_distill", "finetuned_teacher")


def make_classes(folder, classes=CLASSES, images=IMAGES):
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(images):
            pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_classes(tmp_path_factory.mktemp("own") / "images")


def load_tiny(field, path, num_heads=0, family=""):
    """In place of `load_weights`: a network of three classes and 64 pixels."""
    model = create_model("vit_micro_patch8", image_size=SIZE, num_classes=3, registers=2)
    return model, zeros_of(model)


def test_what_is_resized_before_a_crop_keeps_its_share_of_any_size(folder):
    """Of 196 pixels 256 become 224, the very number that the crop has in the recipe."""
    config = load_config("filter_vit", f"folder,path={folder},size=196")
    assert "resize(224, 'bilinear')|center_crop(196)|" in config.eval.pipeline.replace('"', "'")
    assert "random_resized_crop(196, " in config.data.pipeline


@pytest.mark.parametrize("name", sorted({*config_names()} - {*DENSE}))
def test_every_config_has_a_form_for_a_folder(name, folder, monkeypatch):
    monkeypatch.setattr(configured_model, "load_weights", load_tiny)
    student = f",student={STUDENTS[name]}" if name in STUDENTS else ""
    config = load_config(name, f"folder,path={folder},size={SIZE},seed=3{student}")
    assert config.is_locked and (config.seed, config.data.subset_seed) == (3, 3)
    assert config.data.source == f"folder:{folder}" and config.data.classes == ""
    assert config.data.split == "train[:80%,stratified]"
    assert config.eval.split == "train[80%:,stratified]"
    assert (config.batch_size, config.optim.lr_for_batch, config.mix.mixup) == (8, 0, 0)
    assert config.data.repeats == 1 and config.data.per_class == 0
    example = {"image": np.zeros((20, 24, 3), np.uint8), "label": 0}
    for pipeline in (config.data.pipeline, config.eval.pipeline):
        prepared = data.parse_pipeline(pipeline)(example, np.random.default_rng(0))
        assert prepared["image"].shape == (SIZE, SIZE, 3)
    if name == "ensemble":
        assert config.steps == 0
        return
    schedule = make_run_schedule(config, 2.0)
    assert (schedule.total_steps, schedule.eval_every) == (500, 100)
    assert schedule.warmup_steps == (0 if name in UPSAMPLERS else 25)
    peak, end = learning_rates(config)
    assert 0 < end <= peak < (4e-3 if name == "linear_probe" else 2e-3)
    if name in LIKE:
        field = {"task.teacher": "x"} if "teacher" in config.task else {"init_from": "x"}
        config.update_from_flattened_dict(field)
    if name in UPSAMPLERS:
        config.task.backbone = "x"
    task = build_task(config, (SIZE, SIZE, 3), 3, load=load_tiny)
    if name in LIKE:
        assert (task.model.registers, task.model.patch_size, task.model.width) == (2, 8, 64)
    assert name in UPSAMPLERS or task.model.encoder.image_size == SIZE


def test_what_a_folder_says(folder, tmp_path):
    assert load_config("scratch", f"folder,path={folder}").model.name == "vit_small_patch16"
    splits = tmp_path / "splits"
    make_classes(splits / "train", images=90)
    make_classes(splits / "test", images=1)
    config = load_config("scratch", f"folder,path={splits}")
    assert (config.data.split, config.eval.split) == ("train", "test")
    assert config.checkpoint.best_metric == ""  # of a test set no step is chosen
    assert (config.batch_size, config.steps, config.optim.lr) == (64, 500, 1e-3)
    few = load_config("scratch", f"folder,path={splits},labels=20")
    assert (few.batch_size, few.data.per_class) == (8, 20)  # of 60 images a quarter at most
    assert few.steps == 750 and few.optim.lr == pytest.approx(6e-4)
    shutil.move(splits / "test", splits / "validation")
    make_classes(splits, classes=("test",))  # a contest's, of unknown classes
    config = load_config("scratch", f"folder,path={splits}")
    assert (config.eval.split, config.checkpoint.best_metric) == ("validation", "top1")
    shutil.rmtree(splits / "validation")
    assert load_config("scratch", f"folder,path={splits}").eval.split == "train[80%:,stratified]"
    (splits / "val").mkdir()
    with pytest.raises(ValueError, match=f"path={splits}: .*val holds no images"):
        load_config("scratch", f"folder,path={splits}")
    make_classes(splits / "val", images=1)
    config = load_config("attention_distill", f"folder,path={splits},labels=2,unlabeled=1")
    assert (config.unlabeled.source, config.unlabeled.split) == (f"folder:{splits}", "train")
    assert (config.task.layers, config.unlabeled.batch_size) == (None, 8)


def test_images_without_classes(tmp_path):
    make_classes(tmp_path, classes=("one",))
    config = load_config("masked_pretraining", f"folder,path={tmp_path / 'one'}")
    assert config.model.name == "mae_vit_small_patch16" and config.steps == 500
    train, evaluated = (
        data.open_source(config.data.source, split)
        for split in (config.data.split, config.eval.split)
    )
    assert (len(train), len(evaluated), train.num_classes) == (5, 1, 0)
    with pytest.raises(ValueError, match="6 images without classes, and this learns classes"):
        load_config("scratch", f"folder,path={tmp_path / 'one'}")


def test_a_path_with_commas_is_quoted(tmp_path):
    folder = make_classes(tmp_path / "a,labels=3")
    config = load_config("scratch", f"folder,path='{folder}',labels=4")
    assert (config.data.source, config.data.per_class) == (f"folder:{folder}", 4)
    assert len(data.open_source(config.data.source, config.data.split)) == 15
    with pytest.raises(ValueError, match="does not exist"):
        load_config("scratch", f"folder,path={folder}")


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("scratch", "folder", "no path=IMAGES is in it"),
        ("scratch", "folder,path=/nowhere", "path=/nowhere: folder '/nowhere' does not exist"),
        ("scratch", "folder,path={},label=3", "'label=3': expected each once of path=…, labels=…"),
        ("scratch", "folder,path={},seed=1,seed=2", "'seed=2': expected each once"),
        ("scratch", "folder,path={},labels=six", "labels=six: expected a whole number"),
        ("scratch", "folder,path={},size=0", "size=0: expected pixels"),
        ("attention_distill", "folder,path={},unlabeled=3", "unlabeled=3: expected 0 or 1"),
        ("scratch", "path=x", "inaturalist=N, folder,path=IMAGES"),
        ("scratch", "folder,path={},labels=6", "labels=6: class 'ant' has 5 images to learn from"),
        ("scratch", "folder,path={},student=vit_smal", "student=vit_smal: model 'vit_smal' is un"),
        ("scratch", "folder,path={},student=like", "student=like: model 'like' is unknown"),
        ("lift", "folder,path={},student=like", "student=like: model 'like' is unknown"),
        ("scratch", "folder,path={},student=x,like=y", "like=y: beside student=x; give one"),
        ("scratch", "folder,path={},student=lift", "student=lift: it is a LiFT, and this config"),
        ("scratch", "folder,path={},teacher=x", "'teacher=x': expected each once of path=…"),
        ("finetune", "folder,path={},student=vit_micro_patch2", "'student=vit_micro_patch2': exp"),
        ("finetune", "folder,path={},teacher=/nowhere", "init_from: /nowhere: no such file"),
        ("detection", "folder,path={}", "'folder': folders of images say classes alone; give box"),
        ("segmentation", "folder,path={}", "'folder': folders of images say classes alone; give"),
    ],
)
def test_wrong_forms_are_refused(name, argument, message, folder):
    with pytest.raises(ValueError, match=re.escape(message)):
        load_config(name, argument.format(folder))


def test_a_class_of_one_image_can_not_be_split(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    make_classes(copy, classes=("dog",), images=1)
    with pytest.raises(ValueError, match="'dog' is a single image, and one of each class is kept"):
        load_config("scratch", f"folder,path={copy}")


def test_a_teacher_in_the_form_says_how_images_are_prepared(folder, tmp_path):
    teacher = save_teacher(tmp_path)  # its images were normalised by 0.5
    for name, key in (("attention_copy", "teacher"), ("finetune", "teacher"), ("scratch", "like")):
        config = load_config(name, f"folder,path={folder},size=8,{key}={teacher}")
        for pipeline in (config.data.pipeline, config.eval.pipeline):
            assert pipeline.endswith("|normalize(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))")
        assert config.eval.pipeline.startswith("resize(8,") and config.model.name == "student_like"
        given = (config.task.get("teacher"), config.init_from, config.model.like)
        assert [one for one in given if one] == [teacher]


@pytest.mark.parametrize(
    ("name", "rate"),
    [("finetune", 7.1e-5), ("linear_probe", 3.5e-3), ("scratch", 6e-4), ("filter_vit", 1.8e-4)],
)
def test_rates_at_eight_images(name, rate, folder):
    config = load_config(name, f"folder,path={folder}")
    assert (config.batch_size, config.optim.lr) == (8, rate)


@pytest.mark.parametrize(
    ("name", "key", "scaled"),
    [
        ("attention_distill", "teacher", False),
        ("attention_copy", "teacher", False),
        ("feature_distill", "teacher", False),
        ("scratch", "like", False),
        ("finetune", "teacher", True),  # its weights have what they were trained with
        ("linear_probe", "teacher", True),
    ],
)
def test_fresh_students_have_no_layer_scale(name, key, scaled, folder, tmp_path):
    teacher = create_model("vit_micro_patch4", image_size=8, layer_scale=1e-5, registers=2)
    vjx.save(tmp_path / "teacher", teacher, zeros_of(teacher))
    config = load_config(name, f"folder,path={folder},size=8,{key}={tmp_path / 'teacher'}")
    student = build_task(config, (8, 8, 3), 3).model
    assert student.layer_scale == (1e-5 if scaled else None) and student.registers == 2
    config.model.parts = None
    assert build_task(config, (8, 8, 3), 3).model.layer_scale == 1e-5


def test_a_config_is_made_before_there_are_devices(folder, tmp_path):
    # Several processes find each other after their flags are read, and not once JAX has devices.
    argument = f"folder,path={folder},size=8,teacher={save_teacher(tmp_path)}"
    code = (
        "from jax._src import xla_bridge\n"
        "from vit_jax_xfer.experiments.config_files import load_config\n"
        f"assert load_config('finetune', {argument!r}).init_from\n"
        "assert not xla_bridge.backends_are_initialized()"
    )
    ended = finish(start([sys.executable, "-c", code], devices=1))
    assert ended.code == 0, ended.err


def test_a_plan_knows_a_network_that_is_like_the_weights(folder):
    config = load_config("finetune", f"folder,path={folder},size={SIZE}")
    config.init_from = "vit_micro_patch4"  # a plan takes a network's name for its weights
    task = planned_task(config, (SIZE, SIZE, 3), 3)
    assert (task.model.width, task.model.patch_size, task.model.num_classes) == (64, 4, 3)


def test_weights_of_other_pixels_are_told(folder, tmp_path):
    teacher = save_teacher(tmp_path)  # whose images were normalised by 0.5
    told = f"folder,path={folder},size=8,teacher={teacher}"
    for argument, number in ((told, 0), (told.rpartition(",")[0], 1)):
        config = load_config("finetune", argument)
        config.init_from = teacher
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            build_task(config, (8, 8, 3), 3)
        said = [str(one.message) for one in caught if "normalize(mean=(0.5" in str(one.message)]
        assert len(said) == number


def test_runs_of_the_form_and_their_ensemble(folder, tmp_path):
    teacher = save_teacher(tmp_path / "teacher")
    short = tiny_fields("ensemble", steps=2)
    short = {key: short[key] for key in short if key.split(".")[0] == "log"} | {"steps": 2}
    short |= {"optim.warmup_steps": 1, "eval.every": 0, "data.threads": 0}
    arms = {"attention_distill": "teacher", "finetune": "teacher", "scratch": "like"}
    for name, key in arms.items():
        config = load_config(name, f"folder,path={folder},labels=4,size=8,{key}={teacher}")
        config.update_from_flattened_dict(short)
        result = run(config, tmp_path / name)
        assert result["finished"] and result["class_names"] == list(CLASSES)
        fields = json.loads((tmp_path / name / "model" / "model.json").read_text())["fields"]
        assert (fields["width"], fields["depth"], fields["patch_size"]) == (16, 2, 2)
    config = load_config("ensemble", f"folder,path={folder},size=8")
    config.update_from_flattened_dict(
        {"task.members": tuple(str(tmp_path / name) for name in arms)}
    )
    with pytest.warns(LoadingNote, match=r"finetune was trained on other pixels than eval.pipeli"):
        figures = run(config, tmp_path / "ensemble")["metrics"]
    assert 0 <= figures["top1"] <= 1
