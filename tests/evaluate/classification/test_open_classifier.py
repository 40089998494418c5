"""A copying student is measured with its teacher, and never without."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import load_config
from vit_jax_xfer.evaluate.classification.open_classifier import open_classifier
from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.tasks.build import load_member, task_settings
from vit_jax_xfer.tasks.teachers import load_teacher

FIELDS = {"image_size": 8, "patch_size": 4, "width": 8, "depth": 1, "num_heads": 2}
NAMES = tuple("0123456789")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run as it ends: (folder, student, its variables, teacher, its variables)."""
    root = tmp_path_factory.mktemp("runs")
    # One program for both: a teacher may well be a classifier.
    student = vjx.VisionTransformer(
        **FIELDS, num_classes=10, class_names=NAMES, head_init_std=1.0, pool="avg",
        preprocessing=Preprocessing((0.5,) * 3, (0.5,) * 3, crop=1.0, size=8),
    )  # fmt: skip
    built = [(student, student.init_variables(jax.random.key(seed))) for seed in (0, 1)]
    # Queries and keys that attend unevenly, or a teacher's maps would be those of any other.
    built = [(one, jax.tree.map(lambda leaf: 8 * leaf, variables)) for one, variables in built]
    vjx.save(root / "copy/model", *built[0])
    vjx.save(root / "teacher", *built[1])
    config = load_config("attention_copy")
    config.task.teacher = str(root / "teacher")
    config.model.update({**FIELDS, "num_classes": 10})
    (root / "copy/config.json").write_text(config.to_json())
    return root / "copy", *built[0], *built[1]


def test_a_runs_folder_gives_the_student_with_its_teacher(run):
    folder, student, variables, teacher, teacher_variables = run
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype(np.float32)
    wanted, _ = vjx.transfer_forward(
        student, variables, teacher, teacher_variables, images, mode="copy"
    )
    model, found = open_classifier(str(folder))
    logits = model.apply(found, images)
    np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)
    assert np.abs(student.apply(variables, images) - wanted).max() > 0.1
    assert (model.class_names, model.num_classes) == (NAMES, 10)
    assert model.preprocessing == student.preprocessing


def test_a_process_that_reads_no_config_opens_it(run):
    # Tasks are known by their names once they are imported, as a config does.
    code = (
        "import sys; from vit_jax_xfer.evaluate.classification.open_classifier import "
        "open_classifier; open_classifier(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, str(run[0])], check=True, timeout=300)


def test_the_student_alone_is_refused(run):
    with pytest.raises(
        ValueError, match=r"its teacher's attention.*give its run's folder, .*copy$"
    ):
        open_classifier(str(run[0] / "model"))


def test_other_runs_give_their_model(run, tmp_path):
    folder, student, variables, *_ = run
    vjx.save(tmp_path / "model", student, variables)
    config = json.loads((folder / "config.json").read_text())
    # A task of somebody's own may call anything a mode.
    for name, mode in (("attention_transfer", "distill"), ("mine", "copy"), (["?"], "fast")):
        config["task"] |= {"name": name, "mode": mode}
        (tmp_path / "config.json").write_text(json.dumps(config))
        model, _ = open_classifier(str(tmp_path / "model"))
        assert model == student


def test_a_file_that_lies_in_such_a_run_is_what_it_is(run):
    folder, student, variables, *_ = run
    vjx.save(folder / "mine.safetensors", student, variables)
    assert open_classifier(str(folder / "mine.safetensors"))[0] == student


@pytest.mark.parametrize("name", ["attention_transfer", "choice_transfer"])
def test_nor_is_the_student_alone_a_member_or_a_teacher(name, run, tmp_path):
    (tmp_path / "model").mkdir()
    task = {"name": name, "mode": "copy", "teacher": "/teacher"}
    (tmp_path / "config.json").write_text(json.dumps({"task": task}))
    with pytest.raises(ValueError, match="task.members: .*model computes with its teacher's .*, "):
        load_member(str(tmp_path / "model"), (8, 8, 3), 10)
    settings = task_settings(load_config("attention_distill").task)
    for part in ("", "model"):
        taught = dataclasses.replace(settings, teacher=str(tmp_path / part))
        with pytest.raises(ValueError, match="task.teacher: .* is a student that computes with"):
            load_teacher(taught)
