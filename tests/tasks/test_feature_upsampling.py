"""Networks that double features, trained: the loss, what moves, what is saved, what is refused."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.runs import assert_same_bits, checkpoint_arrays, rows, save_teacher, tiny_config
from vit_jax_xfer import data
from vit_jax_xfer.features.open_extractors import load_backbone, load_upsampler
from vit_jax_xfer.models.lifting.lift import double
from vit_jax_xfer.models.preprocessing import IMAGENET
from vit_jax_xfer.tasks.build import build_task
from vit_jax_xfer.train.loop import run
from vit_jax_xfer.train.workdir import fingerprint

SHAPE = (8, 8, 3)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """The model folder of a tiny masked autoencoder."""
    return save_teacher(tmp_path_factory.mktemp("mae"))


def config_of(backbone, name="lift", **fields):
    return tiny_config(name, **{"task__backbone": backbone, **fields})


@pytest.fixture(scope="module")
def batch():
    source = data.open_source("digits", "test[:6]")
    with data.eval_batches(source, "normalize(0.5, 0.5)", batch_size=8) as batches:
        found = next(batches)
    return {"image": jnp.asarray(found["image"]), "mask": jnp.asarray(found["mask"])}


@pytest.mark.parametrize("loss", ["cosine", "l1", "l2"])
@pytest.mark.parametrize("shrink", ["pick", "resize"])
def test_loss_is_lift_loss_of_descriptors_of_three_sizes(backbone, batch, loss, shrink):
    config = config_of(backbone, task__loss=loss, task__shrink=shrink, task__layer=0)
    config.task.facet = "token"
    task = build_task(config, SHAPE, 10)
    variables = task.init(jax.random.key(0))
    found, aux = jax.jit(task.loss)(variables, task.frozen, batch, jax.random.key(1))
    network, weights = vjx.load_pretrained(backbone)
    images = batch["image"]  # the backbone's run normalised alike, and its model says so
    assert network.encoder.preprocessing.mean == (0.5, 0.5, 0.5)
    shrunk = [images, *(vjx.dense.shrink_images(images, n, shrink) for n in (2, 4))]
    describe = jax.jit(lambda x: vjx.dense.descriptors(network, weights, x, facet="token", layer=0))
    features = [describe(one) for one in shrunk]
    expected, stats = jax.jit(vjx.dense.lift_loss_and_stats, static_argnums=(0, 4, 5))(
        task.model, variables, images, features, loss, shrink
    )
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    assert jax.tree.all(jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-4), aux.updates, stats))
    moved = jax.tree.leaves(aux.updates["batch_stats"])
    still = jax.tree.leaves(variables["batch_stats"])
    assert all((a != b).any() for a, b in zip(moved, still, strict=True))


def test_images_are_normalised_as_the_backbone_wants(backbone, batch):
    plain = build_task(config_of(backbone), SHAPE, 10)
    config = config_of(backbone, data__pipeline="normalize", eval__pipeline="normalize")
    other = build_task(config, SHAPE, 10)
    mean, std = (np.array(x, np.float32) for x in IMAGENET)
    images = (batch["image"] / 2 + 0.5 - mean) / std
    found, expected = other.view(images), plain.view(batch["image"])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(expected, batch["image"])


def test_evaluation_counts_real_images_alone(backbone, batch):
    task = build_task(config_of(backbone), SHAPE, 10)
    variables = task.init(jax.random.key(0))
    evaluate = jax.jit(task.evaluate)
    sums = evaluate(variables, task.frozen, batch)
    assert int(sums["count"]) == 6
    first = {name: values[:6] for name, values in batch.items()}
    other = {name: jnp.concatenate([values, values[:3]]) for name, values in batch.items()}
    other["mask"] = other["mask"].at[8:].set(False)
    for again in (first, other):
        for name, value in evaluate(variables, task.frozen, again).items():
            assert float(value) == pytest.approx(float(sums[name]), rel=1e-4), name
    images = task.view(batch["image"])[:6]
    half = vjx.dense.shrink_images(images, 2)
    true, small = (jax.jit(task.backbone)(task.frozen, x) for x in (images, half))
    alike = (double(small) * true).sum(-1) / (
        jnp.linalg.norm(double(small), axis=-1) * jnp.linalg.norm(true, axis=-1)
    )
    expected = float(alike.mean((1, 2)).sum())
    assert float(sums["bilinear_cosine"]) == pytest.approx(expected, rel=1e-3)


def test_a_network_that_knows_the_answer_has_no_loss(backbone, batch):
    """The sign and the order of arguments: true features in place of doubled ones."""
    task = build_task(config_of(backbone), SHAPE, 10)
    images = task.view(batch["image"])
    full = task.backbone(task.frozen, images)
    halves = {full.shape[1] // 2: full, full.shape[1] // 4: None}

    class Oracle:
        def apply(self, variables, shrunk, features, *train, **mutable):
            found = halves[features.shape[1]]
            if found is None:
                found = task.backbone(task.frozen, vjx.dense.shrink_images(images, 2))
            return (found, {"batch_stats": {}}) if mutable else found

    from vit_jax_xfer.models.lifting.lift_loss import lift_loss

    assert float(lift_loss(Oracle(), {}, images, task._pyramid(task.frozen, images))) < 1e-6


def test_loss_falls_and_the_result_goes_back_with_its_backbone(backbone, tmp_path):
    result = run(config_of(backbone, steps=30), tmp_path)
    losses = [values["loss"] for _, kind, values in rows(tmp_path) if kind == "train"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.1
    assert set(result["metrics"]) == {"loss", "cosine", "bilinear_cosine"}
    network, variables = load_backbone(backbone)
    model, weights = load_upsampler(str(tmp_path / "model"), network, variables)
    assert (model.width, model.patch_size, model.source.path) == (16, 2, backbone)
    assert np.isfinite(weights["batch_stats"]["image_1"]["norm"]["var"]).all()
    other, _ = load_backbone(backbone, facet="value")
    with pytest.raises(ValueError, match="model: facet: trained on facet key of .*, not on facet"):
        load_upsampler(str(tmp_path / "model"), other, variables)


def test_resumes_bit_for_bit_and_only_with_its_backbone(backbone, tmp_path):
    fields = {"steps": 4, "checkpoint__every": 2, "checkpoint__keep_last": 2}
    run(config_of(backbone, **fields), tmp_path / "straight")
    shutil.copytree(tmp_path / "straight", tmp_path / "parts")
    for path in ("checkpoints/4", "model"):
        shutil.rmtree(tmp_path / "parts" / path)
    run(config_of(backbone, **fields), tmp_path / "parts")
    straight, parts = (checkpoint_arrays(tmp_path / name, 4) for name in ("straight", "parts"))
    assert_same_bits(straight, parts)
    # The doubling network alone is in them.
    assert any("merge_1" in n for n in straight) and any("batch_stats" in n for n in straight)
    assert not any("attention" in name or "patch_embed" in name for name in straight)
    other = save_teacher(tmp_path / "other", seed=1)
    with pytest.raises(ValueError, match="task.backbone: it is not the one with which this run"):
        run(config_of(other, steps=6), tmp_path / "parts")


def test_backbone_and_sizes_of_the_task(backbone):
    task = build_task(config_of(backbone, "convex_lift"), SHAPE, 10)
    assert type(task.model).__name__ == "ConvexLiFT"
    assert (task.settings.depths, task.settings.shrink) == (2, "resize")
    network, variables = load_backbone(backbone)
    assert task.model.source == network.source(variables)
    assert fingerprint(task.frozen) == fingerprint(variables)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ({"task__backbone": ""}, SHAPE, "task.backbone: none given; pass --config.task.backbone="),
        ({"task__backbone": "/no/where"}, SHAPE, "task.backbone: .*/no/where"),
        ({"task__loss": "huber"}, SHAPE, "task.loss: 'huber' is none of cosine, l1, l2"),
        ({"task__shrink": "crop"}, SHAPE, "task.shrink: 'crop' is none of pick, resize"),
        ({"task__depths": 3}, SHAPE, "task.depths: expected 1 or 2, got 3"),
        ({"task__facet": "keys"}, SHAPE, "task.facet: 'keys' is none of key"),
        ({"task__layer": 2}, SHAPE, "task.layer: 2 is not a layer"),
        ({"model__patch_size": 4}, SHAPE, "model.patch_size: 4, and the backbone has 2"),
        ({"model__width": 32}, SHAPE, "model.width: 32, and the backbone has 16"),
        ({}, (12, 12, 3), "data.pipeline: images of 12×12 pixels; a quarter .* multiples of 8"),
    ],
)
def test_errors(backbone, fields, shape, message):
    config = config_of(backbone, **fields)
    with pytest.raises(ValueError, match=message):
        build_task(config, shape, 10)


def test_layers_that_are_not_there_are_not_counted(backbone, tmp_path):
    with pytest.raises(ValueError, match="optim.layer_decay: a LiFT has no layers to count"):
        run(config_of(backbone, optim__layer_decay=0.75), tmp_path)
