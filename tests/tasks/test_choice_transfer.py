"""A FilterViT whose choice of pixels follows its teacher's class token."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import rows, save_teacher, tiny_config
from vit_jax_xfer.tasks.choice_transfer import _distance
from vit_jax_xfer.tasks.registration import build_task
from vit_jax_xfer.train import loop
from vit_jax_xfer.transfer.class_attention import class_attention, on_grid

IMAGES = np.random.default_rng(0).standard_normal((2, 24, 24, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def make(**fields):
    config = tiny_config("choice_transfer", **fields)
    task = build_task(config, (24, 24, 3), 10)
    return task, task.init(jax.random.key(0))


def test_the_map_is_the_class_tokens_row_of_that_block():
    model = vjx.VisionTransformer(
        image_size=16, patch_size=4, width=16, depth=2, num_heads=2, registers=1, num_classes=0
    )
    variables = model.init_variables(jax.random.key(1))
    images = IMAGES[:, :16, :16]
    maps = vjx.extract(model, variables, images, attention=True).attention[0]
    rows = np.asarray(maps)[:, :, 0, 2:].mean(axis=1)
    wanted = (rows / rows.sum(axis=1, keepdims=True)).reshape(2, 4, 4)
    np.testing.assert_allclose(class_attention(model, variables, images, 0), wanted, atol=1e-6)
    other = class_attention(model, variables, images, -1)
    assert abs(np.asarray(other) - wanted).max() > 1e-5


def test_its_teacher_may_multiply_in_another_type(teacher):
    assert make(task__teacher=teacher)[0].teacher.product_dtype is None
    half, _ = make(task__teacher=teacher, task__teacher_product_dtype="bfloat16")
    assert half.teacher.product_dtype == jnp.bfloat16


def test_copy_keeps_what_the_teacher_looks_at(teacher):
    task, variables = make(task__teacher=teacher, task__mode="copy")
    network, applied = task.networks_shown()["model"]
    given, _ = applied(variables, task.frozen, IMAGES)
    out = vjx.extract(network, given, IMAGES)
    looks = task._looks(task.frozen, IMAGES)
    earlier, _ = make(task__teacher=teacher, task__layer=0)
    assert abs(np.asarray(earlier._looks(task.frozen, IMAGES) - looks)).max() > 1e-3
    for stage in out.filters:
        shares = np.asarray(on_grid(looks, stage.importance.shape[1:])).reshape(2, -1)
        kept = np.asarray(stage.kept)
        for i in range(2):
            rest = np.delete(shares[i], kept[i])
            assert shares[i][kept[i]].min() >= rest.max()
    logits = task.predict(variables, task.frozen, IMAGES)
    np.testing.assert_allclose(logits, out.logits, atol=1e-5)
    assert abs(np.asarray(logits - task.model.apply(variables, IMAGES))).max() > 1e-4


def test_the_distance_is_least_where_the_scores_are_the_teachers():
    looks = jax.nn.softmax(jnp.asarray([0.0, 1.0, 2.0, 3.0])).reshape(1, 2, 2)
    least = float(-(looks * jnp.log(looks)).sum())
    alike = jax.nn.sigmoid(jnp.asarray([[[0.5, 1.5], [2.5, 3.5]]]))
    assert float(_distance(alike, looks)[0]) == pytest.approx(least, abs=1e-5)
    assert float(_distance(alike[:, ::-1], looks)[0]) > least + 0.1
    ones = jnp.ones((1, 2, 2))  # scores beyond what float32's sigmoid tells apart
    assert np.isfinite(jax.grad(lambda x: _distance(x, looks).sum())(ones)).all()


def test_a_run_brings_the_choice_near_to_the_teachers_and_is_reloaded(teacher, tmp_path):
    fields = {"steps": 30, "optim__lr": 1e-2, "task__weight": 10.0, "eval__every": 15}
    fields |= {"task__teacher": teacher, "log__every": 15}
    loop.run(tiny_config("choice_transfer", **fields), tmp_path)
    losses = [row[2]["teacher_loss"] for row in rows(tmp_path) if "teacher_loss" in row[2]]
    assert losses[-1] < losses[0] - 0.05
    model, variables = vjx.load_pretrained(tmp_path / "model")
    assert model.kind == "FilterViT" and "batch_stats" in variables


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model__choose": "random"}, "model.choose, model.attend: 'random' and 'kept' score no"),
        ({"model__attend": "all"}, "'all' score no pixels"),
        ({"task__layer": 2}, "task.layer: 2 is not a layer of a network of depth 2"),
        ({"task__teacher_image_size": -1}, "task.teacher_image_size: -1 asks for the student's"),
        ({"task__teacher": ""}, "task.teacher: none given"),
    ],
)
def test_fields_that_do_not_fit(fields, message, teacher):
    with pytest.raises(ValueError, match=message):
        make(**{"task__teacher": teacher, **fields})


def test_a_student_without_a_choice_is_refused(teacher):
    config = tiny_config("choice_transfer", task__teacher=teacher)
    config.model = tiny_config("scratch").model
    with pytest.raises(ValueError, match="model.name: vit_.* keeps all pixels; choose a filter_"):
        build_task(config, (8, 8, 3), 10)
    config = tiny_config("choice_transfer", task__teacher=teacher, task__mode="copy")
    task = build_task(config, (24, 24, 3), 10)
    with pytest.raises(ValueError, match="unlabeled.source: task.mode='copy' has no loss"):
        task.check_unlabeled()
