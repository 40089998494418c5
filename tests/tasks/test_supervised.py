"""Classification by hand: the binary loss, the probe's batch norm, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.runs import tiny_config
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.pretrained.warm_start import start_from
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.tasks.supervised import Classification, ClassificationSettings
from vit_jax_xfer.tasks.task import binary_cross_entropy

FIELDS = {"image_size": 8, "width": 8, "depth": 1, "num_heads": 2, "num_classes": 3}
IMAGES = np.random.default_rng(0).random((6, 8, 8, 3), np.float32)


def test_the_binary_loss_takes_each_class_for_itself():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]], np.float32)
    there = np.array([[1, 0, 0], [1, 0, 1]])  # any share above 0 is a whole one
    wanted = (np.log1p(np.exp(logits)) - there * logits).mean(axis=1)
    shares = np.array([[1.0, 0.0, 0.0], [0.01, 0.0, 0.99]], np.float32)
    np.testing.assert_allclose(binary_cross_entropy(logits, shares), wanted, rtol=1e-6)
    np.testing.assert_allclose(
        binary_cross_entropy(logits[:1], jnp.array([0])), wanted[:1], rtol=1e-6
    )


def test_a_task_takes_the_loss_that_it_is_told():
    model = create_model("vit_micro_patch4", **FIELDS)
    variables = model.init_variables(jax.random.key(0))
    batch = {"image": IMAGES, "label": np.array([0, 1, 2, 0, 1, 2])}
    for name, losses in (("softmax", None), ("binary", binary_cross_entropy)):
        task = Classification(model, ClassificationSettings(loss=name))
        loss, _ = jax.jit(task.loss)(variables, {}, batch, jax.random.key(0))
        logits = jax.jit(model.apply)(variables, IMAGES)
        wanted = -jax.nn.log_softmax(logits)[np.arange(6), batch["label"]]
        wanted = wanted if losses is None else losses(logits, batch["label"])
        np.testing.assert_allclose(loss, wanted.mean(), rtol=1e-5)


def test_smoothed_labels_and_a_binary_loss_do_not_go_together():
    config = tiny_config("scratch", task__loss="binary", task__label_smoothing=0.1)
    with pytest.raises(ValueError, match="task.label_smoothing: got 0.1, and with task.loss='bin"):
        build_task(config, (8, 8, 3), 10)


def test_a_probes_head_sees_features_normalised_by_the_batch():
    plain = create_model("vit_micro_patch4", **FIELDS)
    probe = plain.clone(batch_norm=True)
    variables = plain.init_variables(jax.random.key(0))
    given = {**probe.init_variables(jax.random.key(1)), "params": variables["params"]}
    features = jax.jit(plain.clone(num_classes=0).apply)(
        {"params": {k: x for k, x in variables["params"].items() if k != "head"}}, IMAGES
    )
    mean, var = features.mean(axis=0), features.var(axis=0)
    head = variables["params"]["head"]
    task = Classification(probe, ClassificationSettings())
    batch = {"image": IMAGES, "label": np.zeros(6, np.int32)}
    loss, aux = jax.jit(task.loss)(given, {}, batch, jax.random.key(0))
    logits = (features - mean) / np.sqrt(var + 1e-6) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(loss, -jax.nn.log_softmax(logits)[:, 0].mean(), rtol=1e-4)
    moved = aux.updates["batch_stats"]["head_batch_norm"]
    np.testing.assert_allclose(moved["mean"], 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moved["var"], 0.9 + 0.1 * var * 6 / 5, rtol=1e-4, atol=1e-6)
    after = {**given, **aux.updates}
    shifted = (features - moved["mean"]) / np.sqrt(moved["var"] + 1e-6)
    wanted = shifted @ head["kernel"] + head["bias"]
    found = jax.jit(task.predict)(after, {}, IMAGES)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)


def test_a_probes_statistics_start_afresh_and_stay_behind():
    plain = create_model("vit_micro_patch4", **FIELDS)
    probe = plain.clone(batch_norm=True)
    begun = start_from(plain, plain.init_variables(jax.random.key(0)), probe)
    assert begun["batch_stats"] == {} and "head" in begun["params"]
    assert start_from(probe, probe.init_variables(jax.random.key(0)), plain).keys() == {"params"}


@pytest.mark.parametrize("fields", [{"num_classes": 0}, {"distillation_token": True}])
def test_a_batch_norm_stands_before_one_head(fields):
    model = create_model("vit_micro_patch4", **{**FIELDS, "batch_norm": True, **fields})
    with pytest.raises(ValueError, match="batch_norm: stands before a head, and before that one"):
        model.init_variables(jax.random.key(0))
