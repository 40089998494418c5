"""Bad input: exit status 1, one line that names the field, and no trace in the work folder."""

import types

import numpy as np
import pytest
from PIL import Image

from tests.runs import file_hashes, rows, save_teacher, tiny_config
from vit_jax_xfer import main
from vit_jax_xfer.train import loop

PIPELINE = "resize(8)|center_crop(8)|normalize(0.5, 0.5)"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def error_of(tmp_path, monkeypatch, capfd):
    """What the command says of a config; checks everything else that must be true of it."""

    def call(config, writes=False):
        monkeypatch.setattr(main, "_CONFIG", types.SimpleNamespace(value=config))
        for flag, value in {"WORKDIR": str(tmp_path / "run"), "DEBUG": False}.items():
            monkeypatch.setattr(main, f"_{flag}", types.SimpleNamespace(value=value))
        for flag in ("COORDINATOR", "PROCESSES", "PROCESS"):
            monkeypatch.setattr(main, f"_{flag}", types.SimpleNamespace(value=None))
        assert main.main(["main"]) == 1
        err = capfd.readouterr().err
        assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n"), err
        assert (tmp_path / "run").exists() == writes
        return err

    return call


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"batch_size": 12}, "batch_size: 12 is not a multiple of the mesh's data × fsdp = 8"),
        ({"eval__batch_size": 12}, "eval.batch_size: 12 is not a multiple"),
        ({"optim__accumulate": 3}, "batch_size: 16 .* optim.accumulate = 3"),
        ({"mesh__fsdp": 3}, "mesh: data=-1, fsdp=3, tensor=1 does not fill the 8 devices"),
        ({"mesh__tensor": 4}, "mesh.tensor: 4 does not divide 2"),
        (
            {"optim__warmup_steps": 3},
            "optim.warmup_steps: 3 steps of warm-up do not fit in 3 steps",
        ),
        ({"epochs": 2.0}, "steps, epochs: set exactly one; got 3 and 2.0"),
        ({"optim__lr_rules": (("hed/.*", 1.0),)}, "optim.lr_rules: 'hed/"),
        ({"checkpoint__best_metric": "topl"}, "checkpoint.best_metric: 'topl' is none of .*top1"),
        ({"checkpoint__best_metric": "ema_top1"}, "checkpoint.best_metric: 'ema_top1'"),
        ({"model__num_heads": 3}, "num_heads: 3 does not divide width 16"),
        ({"model__name": "vit_mikro_patch2"}, "'vit_mikro_patch2' is unknown.*vit_micro_patch2"),
        ({"model__num_classes": 5}, "data.source: .* 10 classes and the model 5"),
        ({"model__patch_size": 3}, "image_size: .* 3-pixel patches"),
        ({"task__name": "clasification"}, "task.name: 'clasification' is none of classification"),
        ({"data__source": "digit"}, "data.source: .*'digit'"),
        ({"data__split": "trian"}, "data.source: split: got 'trian'"),
        ({"data__pipeline": "blur(3)"}, "data.pipeline: .*blur"),
        ({"eval__pipeline": "resize(9)|normalize"}, "image_size: 9×9 .* 2-pixel patches"),
        ({"init_from": "/nowhere/model"}, "init_from: .*/nowhere/model"),
        ({"unlabeled__source": "digits", "unlabeled__batch_size": 8}, "unlabeled.source: only a"),
        ({"unlabeled__source": "digits"}, "unlabeled.batch_size: 0"),
    ],
)
def test_config_that_cannot_run(fields, message, error_of):
    assert_says(error_of(tiny_config("scratch", **fields)), message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"task__mode": "distil"}, "mode: 'distil' is none of .*did you mean 'distill'"),
        ({"task__layers": (0, 2)}, "layers: 2 is not a layer of a network of depth 2"),
        ({"task__heads": (5,)}, "heads: expected distinct numbers from 0 to 1"),
        ({"model__patch_size": 4}, "teacher: 8×8 pixels .* student's 2×2 patches"),
        ({"model__num_heads": 4}, "teacher: num_heads 2 differs from the student's 4"),
        ({"model__depth": 3}, "teacher: depth 2 differs from the student's 3"),
        ({"model__width": 32, "task__mode": "copy_v"}, "mode: 'copy_v' needs heads of one size"),
        ({"task__teacher": "/nowhere/model"}, "task.teacher: .*/nowhere/model"),
        ({"task__teacher": ""}, "task.teacher: none given"),
    ],
)
def test_teacher_that_does_not_fit(fields, message, teacher, error_of):
    config = tiny_config("attention_distill", **{"task__teacher": teacher, **fields})
    assert_says(error_of(config), message)


def test_pretrained_model_that_does_not_fit(teacher, error_of):
    config = tiny_config("finetune", init_from=teacher, model__width=32)
    assert_says(error_of(config), "init_from: .*: .*the model wants .*32")


def test_teacher_without_a_head_for_its_classes(teacher, error_of):
    config = tiny_config("logit_distill", task__teacher=teacher)
    assert_says(error_of(config), "task.teacher: it knows 0 classes and the student 10")


def test_unlabelled_images_of_another_size(teacher, error_of):
    fields = {"source": "digits", "batch_size": 16, "pipeline": "resize(10)|normalize(0.5, 0.5)"}
    given = {f"unlabeled__{name}": value for name, value in fields.items()}
    config = tiny_config("attention_distill", task__teacher=teacher, **given)
    assert_says(error_of(config), "unlabeled.pipeline: makes 10×10 .* data.pipeline 8×8 of those")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("init_from", "runs/x/model"),
        ("model.name", "vit_micro_patch2"),
        ("optim.lr", 0.5),
        ("mix.mixup", 0.5),
        ("unlabeled.source", "digits"),
        ("steps", 5),
        ("epochs", 5.0),
        ("checkpoint.every", 5),
        ("checkpoint.best_metric", "top1"),
        ("explain.every", 5),
        ("log.every", 5),
        ("eval.every", 5),
        ("eval.patience", 5),
        ("eval.benchmarks", "correspondence:willow:/x"),
    ],
)
def test_what_an_ensemble_has_no_use_for(field, value, teacher, error_of):
    config = tiny_config("ensemble", task__members=(teacher, teacher))
    config.update_from_flattened_dict({field: value})
    assert_says(error_of(config), f"{field}: the task ensemble has no use for it")


def test_ensemble_of_one_or_of_nothing(teacher, error_of):
    for members, message in (((teacher,), "two or more, got 1"), (("/no", "/where"), "/no")):
        assert_says(error_of(tiny_config("ensemble", task__members=members)), "members.*" + message)


# --- folders of images ----------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    """images/{train,test}/{cat,dog}/*.jpg, eight small pictures a split."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            path = tmp_path / "images" / split / name
            path.mkdir(parents=True)
            for i in range(4):
                pixels = rng.integers(0, 255, (24, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path / f"{i}.jpg")
    return tmp_path / "images"


def folder_config(folder, name="scratch", **fields):
    pipelines = {"data__pipeline": PIPELINE, "eval__pipeline": PIPELINE}
    source = {"data__source": f"folder:{folder}", "data__per_class": 0, "eval__split": "test"}
    return tiny_config(name, **pipelines, **source, **fields)


def test_folder_as_it_should_be_runs(folder, tmp_path):
    assert loop.run(folder_config(folder), tmp_path / "run")["finished"]


def test_truncated_image(folder, error_of):
    broken = folder / "train" / "dog" / "2.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    said = error_of(folder_config(folder))
    assert_says(said, "data.source: .*1 broken image file.*train/dog/2.jpg")


def test_truncated_image_of_the_evaluation(folder, error_of):
    broken = folder / "test" / "cat" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    assert_says(error_of(folder_config(folder)), "eval.source: .*test/cat/0.jpg")


def test_empty_folder(folder, error_of):
    for path in (folder / "train").rglob("*.jpg"):
        path.unlink()
    assert_says(error_of(folder_config(folder)), "data.source: .*holds no images")
    (folder / "none").mkdir()
    assert_says(error_of(folder_config(folder / "none")), "data.source: .*no folders and no images")


def test_unlabelled_images_where_labels_are_needed(folder, tmp_path, error_of):
    flat = tmp_path / "flat"
    (folder / "train" / "cat").rename(flat)
    assert_says(
        error_of(folder_config(flat, eval__source=f"folder:{folder}")),
        "data.source: .* has no labels, and this task needs them",
    )


# --- while it runs --------------------------------------------------------------------------------


def test_loss_that_is_no_number_stops_the_run(error_of, tmp_path):
    config = tiny_config("scratch", steps=6, optim__lr=1e30, checkpoint__every=1)
    said = error_of(config, writes=True)
    assert_says(said, "loss is (nan|inf) at step 2: .*learning rate.* the checkpoint before step")
    assert [row[0] for row in rows(tmp_path / "run")] == [0, 1]
    assert not (tmp_path / "run" / "model").exists()


def test_work_folder_of_something_else(error_of, tmp_path):
    (tmp_path / "run" / "checkpoints" / "3").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "3" / "data").write_text("precious")
    before = file_hashes(tmp_path / "run")
    said = error_of(tiny_config("scratch"), writes=True)
    assert_says(said, "workdir: .* holds checkpoints but no config.json")
    assert file_hashes(tmp_path / "run") == before


def test_work_folder_that_is_a_file(error_of, tmp_path):
    (tmp_path / "run").write_text("precious")
    assert_says(error_of(tiny_config("scratch"), writes=True), "workdir: .*/run is a file")
    assert (tmp_path / "run").read_text() == "precious"


def assert_says(text, pattern):
    with pytest.raises(ValueError, match=pattern):
        raise ValueError(text)
