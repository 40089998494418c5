"""Feature extractors: shapes, what is compiled, multiply-adds, what fits which backbone."""

import dataclasses
import gc
import time
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

import vit_jax_xfer as vjx
from vit_jax_xfer.explain.network_view import preparation, say_assumed
from vit_jax_xfer.features.backbone import backbone_of, mean_std_of
from vit_jax_xfer.features.feature_extractor import FeatureExtractor
from vit_jax_xfer.features.open_extractors import (
    check_fits,
    load_backbone,
    load_upsampler,
    make_extractors,
)
from vit_jax_xfer.models.lifting.bilinear import Bilinear
from vit_jax_xfer.models.lifting.feature_source import backbone_fingerprint
from vit_jax_xfer.models.preprocessing import IMAGENET, INCEPTION, Preprocessing
from vit_jax_xfer.pretrained import to_publisher_names
from vit_jax_xfer.pretrained.description import describe
from vit_jax_xfer.pretrained.saved_models import save_file
from vit_jax_xfer.storage.checkpoints import save_model


def network(seed=0, **fields):
    fields = {"image_size": 32, "num_classes": 3, "depth": 2, **fields}
    model = vjx.create_model("vit_micro_patch8", **fields)
    return model, model.init(jax.random.key(seed), np.zeros((1, 32, 32, 3), np.float32))


@pytest.fixture(scope="module")
def backbone():
    return backbone_of(*network(), "micro")


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)


def upsampler(name, backbone, **fields):
    model = vjx.create_model(name, width=backbone.width, patch_size=8, **fields)
    inputs = (np.zeros(x.shape, np.float32) for x in model.example_inputs())
    return model, model.init(jax.random.key(1), *inputs)


def test_plain_features_are_descriptors_of_normalised_photographs(backbone, photos):
    network, variables = backbone
    mean, std = IMAGENET
    images = (photos / 255 - np.array(mean)) / np.array(std)
    expected = vjx.dense.descriptors(network.model, variables, images.astype(np.float32))
    found = FeatureExtractor("plain", network, (variables, {}))(photos)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    own, _ = backbone_of(network.model.clone(preprocessing=Preprocessing(*INCEPTION)), variables)
    assert own.mean_std == INCEPTION and network.mean_std == IMAGENET


def test_doubling_is_lift_on_the_same_images(backbone, photos):
    network, variables = backbone
    model, weights = upsampler("lift_patch8", network)
    found = FeatureExtractor("lift", network, (variables, weights), model, 2)(photos)
    mean, std = (np.array(x, np.float32) for x in IMAGENET)
    images = (photos.astype(np.float32) / 255 - mean) / std
    features = network(variables, images)
    expected = vjx.dense.lift(model, weights, images, features, steps=2)
    assert found.shape == (3, 16, 16, network.width)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_grids_and_multiply_adds(backbone):
    network, variables = backbone
    plain = FeatureExtractor("plain", network, (variables, {}))
    doubled = FeatureExtractor("bilinear", network, (variables, {}), Bilinear(8), 2)
    larger = FeatureExtractor("larger", network, (variables, {}), enlarge=2)
    assert [one.grid(32) for one in (plain, doubled, larger)] == [(4, 4), (16, 16), (8, 8)]
    assert [one.side(32) for one in (plain, doubled, larger)] == [32, 32, 64]
    # By hand: patches, one whole block, and of the last one q, k and v, whose keys are taken.
    tokens, width = 17, 64
    block = tokens * width * 12 * width + 2 * tokens**2 * width
    by_hand = 16 * 192 * width + block + tokens * width * 3 * width
    last = tokens * width * 9 * width + 2 * tokens**2 * width
    assert plain.multiply_adds(32) in (by_hand, by_hand + last)
    assert doubled.multiply_adds(32) == plain.multiply_adds(32)
    assert larger.multiply_adds(32) > 4 * plain.multiply_adds(32)
    model, weights = upsampler("lift_patch8", network)
    lift = FeatureExtractor("lift", network, (variables, weights), model, 1)
    assert lift.multiply_adds(32) > plain.multiply_adds(32)


def test_time_is_that_of_later_calls(backbone, photos):
    network, variables = backbone
    extractor = FeatureExtractor("plain", network, (variables, {}))
    assert np.isnan(extractor.seconds_per_image)
    extractor(photos)
    assert np.isnan(extractor.seconds_per_image)
    extractor(photos)
    assert 0 < extractor.seconds_per_image < 60


def test_other_weights_without_compiling_again(backbone, photos):
    network, variables = backbone
    extractor = FeatureExtractor("plain", network, (variables, {}))
    first = extractor(photos)
    _, others = globals()["network"](seed=5)
    again = extractor.with_variables((others, {}))
    found = again(photos)
    assert not np.allclose(found, first)
    assert len(extractor._programs) == 1 and again._programs is extractor._programs
    np.testing.assert_array_equal(extractor(photos), first)


def test_weights_that_are_replaced_can_go(backbone, photos):
    network, variables = backbone
    extractor = FeatureExtractor("plain", network, (jax.tree.map(np.array, variables), {}))
    kept = weakref.ref(jax.tree.leaves(extractor.variables)[0])
    extractor(photos)
    extractor = extractor.with_variables((variables, {}))
    extractor(photos)
    for _ in range(100):  # a thread of JAX's lets go of what it lent, when it comes to it
        if kept() is None:
            break
        gc.collect()
        time.sleep(0.02)
    assert kept() is None


def test_features_are_float32_whatever_computes_them(backbone, photos):
    network, variables = backbone
    model, weights = upsampler("lift_patch8", network, dtype=jnp.bfloat16)
    assert (
        FeatureExtractor("half", network, (variables, weights), model)(photos).dtype == np.float32
    )


def test_photographs_must_be_bytes(backbone):
    network, variables = backbone
    with pytest.raises(ValueError, match=r"photos: expected uint8 \(B, H, W, 3\), got float32"):
        FeatureExtractor("plain", network, (variables, {}))(np.zeros((1, 32, 32, 3), np.float32))


def test_fingerprint_is_of_what_features_come_from():
    model, variables = network()
    same = backbone_fingerprint(model, variables)
    params = dict(variables["params"])
    head = {**params, "head": jax.tree.map(lambda x: x + 1, params["head"])}
    assert backbone_fingerprint(model, {"params": head}) == same
    block = {**params, "blocks_1": jax.tree.map(lambda x: x + 1e-3, params["blocks_1"])}
    assert backbone_fingerprint(model, {"params": block}) != same
    scanned = model.clone(scan=True)
    stacked = {name: x for name, x in params.items() if not name.startswith("blocks_")}
    blocks = [params["blocks_0"], params["blocks_1"]]
    stacked["blocks"] = jax.tree.map(lambda *x: np.stack(x), *blocks)
    assert backbone_fingerprint(scanned, {"params": stacked}) == same


@pytest.mark.parametrize("bias", ["block", "shared"])
def test_fingerprint_is_the_same_at_another_size(bias, tmp_path):
    fields = {"relative_bias": bias, "position": "none", "pool": "avg", "pre_logits": True}
    model, variables = network(**fields)
    same = backbone_fingerprint(model, variables)
    larger = model.clone(image_size=64, num_classes=0, pre_logits=False)
    resized = jax.eval_shape(larger.init, jax.random.key(0), np.zeros((1, 64, 64, 3), np.float32))
    params = flatten_dict(dict(variables["params"]))
    kept = {
        path: params[path] if params[path].shape == leaf.shape else np.ones(leaf.shape)
        for path, leaf in flatten_dict(dict(resized["params"])).items()
    }
    assert len(kept) < len(params) and any((x == 1).all() for x in kept.values())
    assert backbone_fingerprint(larger, {"params": unflatten_dict(kept)}) == same


@pytest.mark.parametrize("name", ["lift_patch8", "convex_lift_patch8"])
def test_upsamplers_remember_what_they_were_trained_on(name, backbone, tmp_path):
    network, variables = backbone
    model, weights = upsampler(name, network, source=network.source(variables))
    path = tmp_path / "up.safetensors"
    save_file(path, model, weights)
    loaded, found = load_upsampler(str(path), network, variables)
    assert loaded.source == model.source
    jax.tree.map(np.testing.assert_array_equal, dict(found), dict(weights))
    for taken, message in (
        ({"facet": "query"}, "facet: trained on facet key of micro, not on facet query"),
        ({"layer": 0}, "layer: trained on layer 1 of micro, not on layer 0"),
        ({"stride": 4}, "a .*LiFT doubles features of patches side by side; drop stride"),
    ):
        other, _ = backbone_of(network.model, variables, "micro", **taken)
        with pytest.raises(ValueError, match=f"{path}: {message}"):
            load_upsampler(str(path), other, variables)
    other, others = backbone_of(*globals()["network"](seed=5), "another")
    with pytest.raises(ValueError, match="backbone: trained on the features of micro .* another"):
        load_upsampler(str(path), other, others)


def test_what_does_not_fit_a_backbone(backbone):
    network, variables = backbone
    for fields, message in (
        ({"patch_size": 4, "width": network.width}, "patch_size: made for 4 pixels"),
        ({"patch_size": 8, "width": 32}, "width: made for features of 32 channels"),
    ):
        with pytest.raises(ValueError, match=f"x: {message}"):
            check_fits("x", vjx.create_model("lift", **fields), network, variables)
    with pytest.raises(ValueError, match="x: expected a LiFT or ConvexLiFT, got a Vision"):
        check_fits("x", network.model, network, variables)


def test_extractors_of_a_comparison(backbone, tmp_path):
    network, variables = backbone
    path = tmp_path / "up.safetensors"
    save_file(path, *upsampler("lift_patch8", network))
    names = [one.name for one in make_extractors(network, variables, [str(path)], (1, 2))]
    assert names == [
        "plain", "bilinear ×1", "bilinear ×2", "joint bilateral ×1", "joint bilateral ×2",
        "LiFT ×1", "LiFT ×2", "input ×2",
    ]  # fmt: skip
    two = [one.name for one in make_extractors(network, variables, [str(path)] * 2, (1,), ())]
    assert two == [f"LiFT {path} ×1"] * 2
    with pytest.raises(ValueError, match="extractors: 'nearest' is none of plain, bilinear"):
        make_extractors(network, variables, names=("nearest",))
    with pytest.raises(ValueError, match="steps: got 0"):
        make_extractors(network, variables, steps=(0,))
    overlapping = dataclasses.replace(network, stride=4)
    with pytest.raises(ValueError, match="extractors: bilateral .* leave it out, or drop stride"):
        make_extractors(overlapping, variables)
    rest = make_extractors(
        overlapping, variables, steps=(1,), names=("plain", "bilinear", "larger")
    )
    assert [extractor.grid(32) for extractor in rest] == [(7, 7), (14, 14), (15, 15)]


def test_backbones_from_files(tmp_path):
    model, variables = network()
    path = tmp_path / "vit.safetensors"
    save_file(path, model, variables)
    found, weights = load_backbone(str(path), facet="token", layer=0)
    assert (found.facet, found.layer, found.name, found.patch_size) == ("token", 0, str(path), 8)
    assert found.width == 64
    for taken, message in (({"facet": "keys"}, "facet: 'keys'"), ({"layer": 2}, "layer: 2")):
        with pytest.raises(ValueError, match=message):
            load_backbone(str(path), **taken)
    lift = tmp_path / "lift.safetensors"
    save_file(lift, *upsampler("lift_patch8", found))
    with pytest.raises(ValueError, match="a LiFT has no descriptors; choose a vision transformer"):
        load_backbone(str(lift))


def test_errors_say_which_file_it_was(backbone, tmp_path):
    network, variables = backbone
    model, weights = upsampler("lift_patch8", network)
    authors = tmp_path / "lift.npz"
    np.savez(authors, **to_publisher_names(weights, "lift"))
    with pytest.raises(ValueError, match="lift.npz: .*a LiFT's file"):
        load_backbone(str(authors))
    vit = tmp_path / "vit.npz"
    np.savez(vit, **to_publisher_names(variables, "deit"))
    with pytest.raises(ValueError, match="vit.npz: family: 'lift' has names as"):
        load_upsampler(str(vit), network, variables)
    save_model(tmp_path / "run" / "model", weights, describe(model))
    run = str(tmp_path / "run")
    for load in (load_backbone, lambda path: load_upsampler(path, network, variables)):
        with pytest.raises(ValueError, match="run: is the folder of a run; its model is .*model"):
            load(run)


@pytest.mark.parametrize(
    ("name", "assumed"), [("vit_micro_patch8", IMAGENET), ("filter_vit_micro", INCEPTION)]
)
def test_features_and_explanations_assume_the_same_of_pixels(name, assumed, capsys):
    model = vjx.create_model(name, preprocessing=None)
    seen = preparation(model)
    assert (seen.mean, seen.std) == mean_std_of(model) == assumed
    say_assumed(model, "runs/a")
    told = "ImageNet's mean and std" if assumed == IMAGENET else "mean 0.5, std 0.5"
    assert f"runs/a does not say how images are prepared: {told}" in capsys.readouterr().err
