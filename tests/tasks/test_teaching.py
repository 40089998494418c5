"""From a teaching task's config to what its step computes: no field is read in vain."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs import tiny_config
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.pretrained.parameter_rules import unstack_blocks
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.distillation import LogitDistillation, LogitDistillationSettings
from vit_jax_xfer.tasks.placeholder_teacher import placeholder_loader
from vit_jax_xfer.tasks.teaching import TeacherSettings, TeachingTask, first_rows, join_rows
from vit_jax_xfer.train.collectives import collectives
from vit_jax_xfer.train.compile import trace_step
from vit_jax_xfer.train.inputs import batch_shapes
from vit_jax_xfer.train.schedule import make_run_schedule
from vit_jax_xfer.train.sharding import make_mesh
from vit_jax_xfer.train.workdir import fingerprint

CONFIGS = ("attention_distill", "attention_copy", "logit_distill", "feature_distill")
TEACHER = {"image_size": 8, "width": 16, "depth": 2, "num_heads": 2, "num_classes": 10}


def task_of(name, **fields):
    config = tiny_config(name, task__teacher="vit_micro_patch2", **fields)
    return build_task(config, (8, 8, 3), 10, placeholder_loader({"vit_micro_patch2": TEACHER}))


class Brightest(TeachingTask):
    """A made-up teacher: an image's logits and its loss are its own pixels'."""

    def teach(self, variables, frozen, images, train, rngs):
        return images[:, 0, 0], images[:, 0, 0, 0]


@pytest.mark.parametrize(("weight", "unlabeled"), [(1.0, 0.5), (3.0, 1.0), (2.0, 0.0)])
def test_the_teachers_loss_is_a_weighted_mean_of_both_streams(weight, unlabeled):
    """By its definition, for streams of different sizes."""
    settings = TeacherSettings(weight=weight, unlabeled_weight=unlabeled, label_smoothing=0.2)
    task = Brightest(None, settings, None, {})
    rng = np.random.default_rng(0)
    image, other = (rng.random((number, 1, 1, 3), np.float32) for number in (4, 6))
    label = np.arange(4) % 3
    batch = {"image": image, "label": label, "unlabeled": other}
    loss, aux = task.loss({}, {}, batch, jax.random.key(0))
    own, theirs = image[:, 0, 0, 0], other[:, 0, 0, 0]
    teacher = (own.sum() + unlabeled * theirs.sum()) / (4 + 6 * unlabeled)
    targets = 0.8 * np.eye(3)[label] + 0.2 / 3
    labels = -(targets * np.log(jax.nn.softmax(image[:, 0, 0]))).sum(-1).mean()
    np.testing.assert_allclose(aux.metrics["teacher_loss"], teacher, rtol=1e-6)
    np.testing.assert_allclose(aux.metrics["label_loss"], labels, rtol=1e-5)
    np.testing.assert_allclose(loss, labels + weight * teacher, rtol=1e-5)
    right = (image[:, 0, 0].argmax(-1) == label).mean()
    assert aux.metrics["top1"] == pytest.approx(right)


@pytest.mark.parametrize(("first", "second"), [(8, 8), (8, 24), (24, 16)])
def test_two_streams_join_alike_on_any_mesh(first, second):
    rows = jnp.arange(first), first + jnp.arange(second)
    joined = join_rows(*rows)
    assert sorted(joined.tolist()) == list(range(first + second))
    np.testing.assert_array_equal(first_rows(joined, first, second), rows[0])
    # On eight devices each has its own rows of both, so the order may be the same as on one.
    for device, part in enumerate(joined.reshape(8, -1).tolist()):
        own = np.split(rows[0], 8)[device].tolist() + np.split(rows[1], 8)[device].tolist()
        assert sorted(part) == sorted(own)


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 4, 1)])
def test_unlabelled_images_join_the_labelled_ones_where_they_are(sizes):
    """No image travels, nor anything made of one, but sums of gradients and metrics."""
    fields = {"batch_size": 16, "unlabeled__source": "digits", "unlabeled__batch_size": 48}
    config = tiny_config("logit_distill", task__teacher="vit_micro_patch2", **fields)
    load = placeholder_loader({"vit_micro_patch2": {**TEACHER, "depth": 1}})
    config.model.depth = 1
    task = build_task(config, (8, 8, 3), 10, load)
    shapes = batch_shapes(config, (8, 8, 3))
    assert shapes["unlabeled"].shape == (48, 8, 8, 3)
    program = trace_step(task, config, make_run_schedule(config, 100), make_mesh(*sizes), shapes)
    step = program.traced.lower().compile({"xla_backend_optimization_level": 0})
    assert {one.kind for one in collectives(step.as_text())} == {"all-reduce"}


@pytest.mark.parametrize("mode", ["copy", "copy_v"])
def test_images_without_labels_teach_a_copy_nothing(mode):
    task = task_of("attention_copy", task__mode=mode)
    with pytest.raises(ValueError, match=rf"unlabeled\.source: task\.mode='{mode}' copies"):
        task.check_unlabeled()
    task_of("attention_distill").check_unlabeled()


@pytest.mark.parametrize("name", CONFIGS)
def test_students_drop_branches_while_they_learn_and_not_when_evaluated(name):
    task = task_of(name, model__drop_path=0.5)
    image = jax.ShapeDtypeStruct((4, 8, 8, 3), jnp.float32)
    label = jax.ShapeDtypeStruct((4,), jnp.int32)
    batch = {"image": image, "label": label}
    variables = jax.eval_shape(task.init, jax.random.key(0))
    mask = {"mask": jax.ShapeDtypeStruct((4,), bool)}
    learns = jax.make_jaxpr(task.loss)(variables, task.frozen, batch, jax.random.key(0))
    evaluates = jax.make_jaxpr(task.evaluate)(variables, task.frozen, {**batch, **mask})
    assert "random_bits" in str(learns) and "random_bits" not in str(evaluates)


def test_a_shared_drop_path_is_drawn_for_the_teacher_too():
    def draws(share):
        task = task_of("attention_distill", model__drop_path=0.5, task__share_drop_path=share)
        images = jax.ShapeDtypeStruct((4, 8, 8, 3), jnp.float32)
        variables = jax.eval_shape(task.init, jax.random.key(0))
        rngs = {"dropout": jax.random.key(1)}

        def teach(variables, images):
            return task.teach(variables, task.frozen, images, True, rngs)

        return str(jax.make_jaxpr(teach)(variables, images)).count("random_fold_in")

    assert (draws(False), draws(True)) == (1, 2)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_teacher_runs_on_its_students_kernels_and_in_its_type(name):
    fields = {"attention": "blockwise", "blockwise_above": 7, "dtype": "bfloat16"}
    task = task_of(name, **{f"model__{field}": value for field, value in fields.items()})
    for network in (task.model, task.teacher):
        assert {field: getattr(network, field) for field in fields} == fields


class Linear(nn.Module):
    num_classes: int = 3

    @nn.compact
    def __call__(self, images, train=False):
        return nn.Dense(self.num_classes)(images.reshape(images.shape[0], -1))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_logits_are_distilled_by_the_definition(temperature):
    """T² · cross-entropy of softmax(student / T) with softmax(teacher / T) (1503.02531)."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((5, 2, 2, 3)).astype(np.float32)
    own, theirs = (
        {"params": {"Dense_0": {"kernel": rng.standard_normal((12, 3)), "bias": np.zeros(3)}}}
        for _ in range(2)
    )
    settings = LogitDistillationSettings(temperature=temperature)
    task = LogitDistillation(Linear(), settings, Linear(), theirs)
    logits, losses = task.teach(own, theirs, images, True, None)
    flat = images.reshape(5, -1)
    student, teacher = (flat @ x["params"]["Dense_0"]["kernel"] for x in (own, theirs))
    np.testing.assert_allclose(logits, student, rtol=1e-4, atol=1e-5)

    def log_softmax(x):
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    targets = np.exp(log_softmax(teacher / temperature))
    wanted = -(temperature**2) * (targets * log_softmax(student / temperature)).sum(-1)
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)


@pytest.mark.parametrize("dtype", ["", "bfloat16", "float32"])
def test_a_lifted_backbone_has_a_type_of_its_own(dtype):
    backbone = create_model(
        "vit_micro_patch2", image_size=8, width=16, depth=1, num_heads=2, num_classes=0
    )
    weights = jax.jit(backbone.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    weights = jax.tree.map(np.asarray, weights)

    def task_with(dtype):
        config = tiny_config("lift", task__backbone="random", task__backbone_dtype=dtype)
        return build_task(config, (8, 8, 3), 10, lambda *given: (backbone, weights))

    task = task_with(dtype)
    wanted = jnp.dtype(dtype or "float32")
    assert {leaf.dtype for leaf in jax.tree.leaves(task.frozen)} == {wanted}
    assert task.backbone.model.dtype == wanted
    # It is known by its weights as they are stored.
    assert task.model.source == task_with("").model.source
    with pytest.raises(ValueError, match="task.backbone_dtype: 'half' is none of bfloat16"):
        task_with("half")


def test_a_scanned_students_teacher_is_scanned_as_well():
    """Its blocks are stacked on the host, so that the two go in step; it teaches the same."""
    tasks = [task_of("attention_distill", model__scan=scan) for scan in (False, True)]
    assert [task.teacher.scan for task in tasks] == [False, True]
    apart, stacked = ({"params": dict(task.frozen["params"])} for task in tasks)
    jax.tree.map(np.testing.assert_array_equal, unstack_blocks(stacked), apart)
    leaves = jax.tree.leaves(stacked["params"]["blocks"])
    assert all(isinstance(leaf, np.ndarray) and leaf.shape[0] == 2 for leaf in leaves)
    assert not any(any(leaf.strides) for leaf in leaves)  # placeholders still take no memory
    # By its old fingerprint a run goes on that was started before teachers were stacked.
    assert fingerprint(unstack_blocks(stacked)) == fingerprint(apart) != fingerprint(stacked)


@pytest.mark.parametrize("name", ["attention_distill", "attention_copy", "feature_distill"])
def test_a_scanned_students_step_is_as_long_for_any_depth(name):
    def equations(depth):
        teacher = {"vit_micro_patch2": {**TEACHER, "depth": depth}}
        fields = {"model__depth": depth, "model__scan": True}
        config = tiny_config(name, task__teacher="vit_micro_patch2", **fields)
        task = build_task(config, (8, 8, 3), 10, placeholder_loader(teacher))
        batch = {
            "image": jax.ShapeDtypeStruct((4, 8, 8, 3), jnp.float32),
            "label": jax.ShapeDtypeStruct((4,), jnp.int32),
        }
        variables = jax.eval_shape(task.init, jax.random.key(0))
        gradient = jax.grad(lambda *given: task.loss(*given)[0])
        frozen = jax.eval_shape(lambda: task.frozen)
        program = jax.make_jaxpr(gradient)(variables, frozen, batch, jax.random.key(0))
        return str(program).count(" = ")

    assert equations(8) == equations(3)


def test_a_student_of_a_teacher_is_no_probe():
    with pytest.raises(ValueError, match="model.batch_norm: is for a probe"):
        task_of("attention_distill", model__batch_norm=True)
