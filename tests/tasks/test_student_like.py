"""Runs whose student is like its teacher, and whose teacher has its own view of the images."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import vit_jax_xfer as vjx
from tests.native import draw
from tests.runs import rows, tiny_config
from vit_jax_xfer import data
from vit_jax_xfer.models.collections import stack_layers
from vit_jax_xfer.models.preprocessing import IMAGENET, INCEPTION, Preprocessing
from vit_jax_xfer.models.student import NATIVE_PARTS, student_like
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.pretrained.description import describe
from vit_jax_xfer.storage.checkpoints import save_model
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train.loop import run

# Patches of 4 pixels at 16 × 16, beside the digits' 2 at 8 × 8; ImageNet's normalisation.
TEACHER = VisionTransformer(
    image_size=16,
    patch_size=4,
    width=24,
    depth=2,
    num_heads=2,
    mlp_dim=20,
    num_classes=10,
    layer_scale=0.5,
    registers=2,
    relative_bias="block",
    position="none",
    mlp="swiglu",
    preprocessing=Preprocessing(*IMAGENET, interpolation="bilinear"),
)
# None: as the teacher's, which the tiny configs' own sizes would hide.
OWN_SIZE = {f"model__{field}": None for field in ("width", "depth", "num_heads", "pool")}
FIELDS = {
    **OWN_SIZE,
    "model__name": "student_like",
    "model__patch_size": 2,
    "task__teacher_image_size": -1,
}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a finished teacher."""
    folder = tmp_path_factory.mktemp("teacher") / "model"
    save_model(folder, draw(TEACHER, 1), describe(TEACHER))
    return str(folder)


def config_of(teacher, name="attention_distill", **fields):
    return tiny_config(name, task__teacher=teacher, **{**FIELDS, **fields})


def task_of(teacher, name="attention_distill", **fields):
    return build_task(config_of(teacher, name, **fields), (8, 8, 3), 10)


@pytest.fixture(scope="module")
def images():
    """The tiny runs' evaluation images, normalised by 0.5, and their labels."""
    source = data.open_source("digits", "test[:80]")
    with data.eval_batches(source, "normalize(0.5, 0.5)", batch_size=80) as batches:
        batch = next(batches)
    return batch["image"], batch["label"]


def seen_by_teacher(images, mean=IMAGENET[0], std=IMAGENET[1], size=16, method="linear"):
    """The same pixels as the teacher of TEACHER.preprocessing wants them."""
    pixels = np.asarray(images) * 0.5 + 0.5
    wide = jax.image.resize(pixels, (len(pixels), size, size, 3), method)
    return (np.clip(wide, 0, 1) - np.array(mean)) / np.array(std)


def test_a_run_with_a_student_like_its_teacher(teacher, images, tmp_path):
    result = run(config_of(teacher), tmp_path)
    assert result["finished"] and len(rows(tmp_path)) == 4
    student, variables = vjx.load_pretrained(tmp_path / "model")
    wanted = student_like(TEACHER, image_size=8, patch_size=2, num_classes=10, preprocessing=None)
    prepared = Preprocessing(*INCEPTION, crop=1.0, size=8)  # as the run's own images
    names = tuple(map(str, range(10)))
    assert student == wanted.clone(pool=student.pool, preprocessing=prepared, class_names=names)
    logits, loss = vjx.transfer_forward(
        student,
        variables,
        *vjx.load_pretrained(teacher),
        images[0],
        teacher_images=seen_by_teacher(images[0]).astype(np.float32),
    )
    assert result["metrics"]["teacher_loss"] == pytest.approx(float(loss), rel=1e-4)
    top1 = float((logits.argmax(-1) == images[1]).mean())
    assert result["metrics"]["top1"] == pytest.approx(top1, abs=1e-6)


def test_an_ensemble_of_students_like_their_teachers(teacher, images, tmp_path):
    fields = {"model__parts": ("registers", "relative_bias"), "model__width": 16}
    fields |= {"model__num_heads": 1, "task__match_heads": "average"}
    run(config_of(teacher, "attention_copy", **fields), tmp_path / "copy")
    run(config_of(teacher, model__parts=(), task__tokens="common"), tmp_path / "distill")
    members = tuple(str(tmp_path / name) for name in ("copy", "distill"))
    result = run(tiny_config("ensemble", task__members=members), tmp_path / "both")
    copying, distilled = (
        vjx.load_pretrained(tmp_path / name / "model") for name in ("copy", "distill")
    )
    assert (copying[0].registers, copying[0].mlp, copying[0].width) == (2, "plain", 16)
    assert (distilled[0].registers, distilled[0].position) == (0, "learned")
    logits, _ = vjx.transfer_forward(
        *copying,
        *vjx.load_pretrained(teacher),
        images[0],
        mode="copy",
        match_heads="average",
        teacher_images=seen_by_teacher(images[0]).astype(np.float32),
    )
    both = np.stack(
        [jax.nn.softmax(logits), jax.nn.softmax(distilled[0].apply(distilled[1], images[0]))]
    )
    wanted = -np.log(both.mean(0)[np.arange(80), images[1]]).mean()
    assert result["metrics"]["loss"] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("name", ["attention_distill", "attention_copy"])
def test_attention_comes_from_the_teachers_view(teacher, images, name):
    task = task_of(teacher, name)
    variables = draw(task.model, 2)
    pair = task.model, variables, TEACHER, task.frozen, images[0][:4]
    mode = {"mode": name.removeprefix("attention_")}
    seen = seen_by_teacher(images[0][:4]).astype(np.float32)
    logits, loss = vjx.transfer_forward(*pair, **mode, teacher_images=seen)
    got, losses = task.teach(variables, task.frozen, images[0][:4], False, None)
    np.testing.assert_allclose(got, logits, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(losses.mean(), loss, rtol=1e-4)
    predicted = task.predict(variables, task.frozen, images[0][:4])
    np.testing.assert_allclose(predicted, logits, rtol=1e-3, atol=1e-4)
    # Of the student's own pixels, only enlarged, the teacher says something else.
    plain = np.asarray(images[0][:4]).repeat(2, 1).repeat(2, 2)
    other = vjx.transfer_forward(*pair, **mode, teacher_images=plain)
    assert abs(other[1] - loss) > 1e-3 or np.abs(other[0] - logits).max() > 5e-3


@pytest.mark.parametrize("name", ["logit_distill", "feature_distill"])
def test_other_tasks_teachers_have_their_view_too(teacher, images, name):
    task = task_of(teacher, name)
    variables = draw(task.model, 2)
    own = images[0][:4]
    seen = seen_by_teacher(own).astype(np.float32)
    logits, losses = task.teach(variables, task.frozen, own, False, None)
    if name == "logit_distill":
        targets = jax.nn.softmax(TEACHER.apply(task.frozen, seen))
        wanted = -(targets * jax.nn.log_softmax(logits)).sum(-1)
    else:
        networks = ((task.model, variables, own), (TEACHER, task.frozen, seen))
        one, other = (jax.nn.standardize(streams(*x), axis=-1, epsilon=1e-6) for x in networks)
        wanted = jnp.square(one - other).mean(axis=(2, 3)).sum(0)
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)


def streams(model, variables, images):
    """The residual streams of all layers, (L, B, T, C)."""
    _, out = model.apply(variables, images, mutable=["residual"])
    return stack_layers(out["residual"], ("stream",))


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        (None, None),
        ("", None),
        ((), ()),
        ("layer_scale", ("layer_scale",)),
        ("layer_scale, registers", ("layer_scale", "registers")),
        (("registers", "swiglu"), ("registers", "swiglu")),
        ("-layer_scale", tuple(part for part in NATIVE_PARTS if part != "layer_scale")),
        ("-rotary, -registers", tuple(NATIVE_PARTS.keys() - {"rotary", "registers"})),
        (("-swiglu",), tuple(part for part in NATIVE_PARTS if part != "swiglu")),
    ],
)
def test_parts_of_a_config(teacher, parts, wanted):
    config = config_of(teacher, model__parts=parts, task__tokens="common")
    student = student_like(TEACHER, wanted, image_size=8, patch_size=2, num_classes=10)
    student = student.clone(pool="cls", preprocessing=None)
    # As it is written beside a run, and read again for an ensemble.
    for chosen in (config, ConfigDict(json.loads(config.to_json()))):
        assert build_task(chosen, (8, 8, 3), 10).model == student


def test_fields_of_the_config_win_and_the_teacher_runs_like_its_student(teacher):
    task = task_of(teacher, model__registers=2, model__mlp_dim=8, model__dtype="bfloat16")
    assert (task.model.mlp_dim, task.model.dtype) == (8, jnp.bfloat16)
    assert (task.teacher.dtype, task.teacher.drop_path) == (jnp.bfloat16, 0.0)


def test_the_family_goes_to_the_loader(teacher, monkeypatch):
    from vit_jax_xfer.tasks import teachers

    asked = {}

    def load(path, family=None, **fields):
        asked.update(fields, family=family)
        return TEACHER, draw(TEACHER, 1), None

    monkeypatch.setattr(teachers, "load_on_host", load)
    task_of("some.pth", task__teacher_family="dinov2", task__teacher_num_heads=2)
    assert asked == {"family": "dinov2", "num_heads": 2}
    task_of("some.pth")
    assert asked["family"] is None


def test_matching_from_a_config(teacher):
    fields = {"task__match_layers": (1, 0), "task__match_heads": "group", "model__num_heads": 1}
    transfer = task_of(teacher, **fields).settings.transfer
    assert (transfer.match_layers, transfer.match_heads) == ((1, 0), "group")


@pytest.mark.parametrize(
    ("what", "fields", "message"),
    [
        ("attention", {"model__parts": "registes"}, "parts: .* did you mean 'registers'"),
        ("attention", {"model__parts": ()}, "teacher: its registers is 2 .* tokens='common'"),
        ("attention", {"task__teacher_image_size": 0}, "8×8 .*task.teacher_image_size=-1"),
        ("attention", {"task__match_layers": "evn"}, "match_layers: 'evn'"),
        ("attention", {"model__name": "vit_micro_patch2", "model__parts": ""}, "model.parts: vit"),
        ("feature", {"model__parts": ()}, "teacher: its registers is 2 .*'student_like'"),
        ("feature", {"task__teacher_image_size": 0}, "teacher: 8×8 pixels"),
        ("feature", {"model__depth": 3}, "task.teacher: its depth 2"),
        ("logit", {"task__teacher_image_size": 10}, "task.teacher_image_size: 10×10 .* 4-pixel"),
    ],
)
def test_refused(teacher, what, fields, message):
    with pytest.raises(ValueError, match=message):
        task_of(teacher, f"{what}_distill", **fields)


def test_branches_are_shared_by_networks_of_one_depth(teacher):
    fields = {"model__depth": 3, "task__match_layers": "even"}
    task_of(teacher, **fields)
    with pytest.raises(ValueError, match="share_drop_path: the teacher has 2 layers"):
        task_of(teacher, **fields, task__share_drop_path=True)


def test_a_task_without_a_teacher(teacher):
    config = tiny_config("scratch", **OWN_SIZE, model__name="student_like")
    with pytest.raises(
        ValueError, match="'student_like' has its size from a teacher; choose a task"
    ):
        build_task(config, (8, 8, 3), 10)
