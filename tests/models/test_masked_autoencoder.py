"""Masked pre-training: which patches are seen, what is painted, what counts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.mae import (
    MaskedAutoencoder,
    mae_forward,
    reconstruction_targets,
    visible_patches,
)
from vit_jax_xfer.models.registry import create_model
from vit_jax_xfer.models.transformer.patches import patchify, unpatchify
from vit_jax_xfer.models.vit import VisionTransformer

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 16, 16, 3)).astype(np.float32)
NOISE = RNG.permutation(32).reshape(2, 16).astype(np.float32)
MODEL = create_model(
    "mae_vit_micro_patch4",
    image_size=16,
    width=24,
    depth=1,
    num_heads=3,
    decoder_width=16,
    decoder_depth=1,
    decoder_num_heads=2,
)


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), IMAGES, NOISE)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype), shapes)


@partial(jax.jit, static_argnames="norm_pix_loss")
def forward(variables, images=IMAGES, noise=NOISE, norm_pix_loss=True):
    return mae_forward(MODEL, variables, images, noise=noise, norm_pix_loss=norm_pix_loss)


def test_patches_are_cut_and_put_back():
    images = RNG.standard_normal((2, 8, 12, 3)).astype(np.float32)
    patches = patchify(images, 4)
    assert patches.shape == (2, 6, 48)
    # Row by row, channels last: the second patch of the second row.
    np.testing.assert_array_equal(patches[1, 4], images[1, 4:8, 4:8].reshape(-1))
    np.testing.assert_array_equal(unpatchify(patches, 4, (2, 3)), images)


@pytest.mark.parametrize(
    ("ratio", "visible"), [(0.75, 4), (0.5, 8), (0.7, 4), (0.9, 1), (0.01, 15)]
)
def test_the_least_noisy_patches_are_seen(variables, ratio, visible):
    assert visible_patches(16, ratio) == visible
    mask = jax.jit(lambda v: MODEL.apply(v, IMAGES, NOISE, ratio)[1])(variables)
    threshold = np.sort(NOISE, axis=1)[:, visible - 1 : visible]
    assert mask.dtype == jnp.float32
    np.testing.assert_array_equal(mask, threshold < NOISE)


def test_the_prediction_sees_visible_patches_alone(variables):
    _, prediction, mask = forward(variables)
    masked = np.asarray(unpatchify(np.repeat(mask[..., None], 48, -1), 4, (4, 4)))
    hidden = forward(variables, IMAGES + masked * 5)[1]
    np.testing.assert_array_equal(hidden, prediction)
    seen = forward(variables, IMAGES + (1 - masked) * RNG.standard_normal(IMAGES.shape))[1]
    assert (np.abs(seen - prediction).max(axis=(0, 2)) > 1e-3).all()


def test_every_patch_keeps_its_place(variables):
    """Noise that chooses the same patches in another order gives the same prediction."""
    _, prediction, mask = forward(variables)
    other = np.where(mask > 0, 100 + RNG.random(mask.shape), -NOISE)
    np.testing.assert_allclose(forward(variables, noise=other)[1], prediction, atol=1e-5)
    moved = forward(variables, noise=NOISE[:, ::-1])[1]
    assert np.abs(moved - prediction).max() > 1e-2


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_loss_counts_masked_patches_alone(variables, norm_pix_loss):
    loss, prediction, mask = forward(variables, norm_pix_loss=norm_pix_loss)
    target = np.asarray(patchify(IMAGES, 4), np.float64)
    if norm_pix_loss:
        mean, deviation = target.mean(-1, keepdims=True), target.var(-1, keepdims=True, ddof=1)
        target = (target - mean) / np.sqrt(deviation + 1e-6)
    errors = ((np.asarray(prediction, np.float64) - target) ** 2)[np.asarray(mask) > 0]
    assert len(errors) == 2 * 12
    np.testing.assert_allclose(loss, errors.mean(), rtol=1e-5)


def test_standardised_targets_divide_by_one_less():
    targets = reconstruction_targets(jnp.asarray(IMAGES), 4, norm_pix_loss=True)
    np.testing.assert_allclose(targets.mean(-1), 0, atol=1e-5)
    np.testing.assert_allclose(np.var(targets, axis=-1, ddof=1), 1, rtol=1e-4)
    plain = reconstruction_targets(jnp.asarray(IMAGES), 4, norm_pix_loss=False)
    np.testing.assert_array_equal(plain, patchify(IMAGES, 4))


def test_another_size_has_its_own_grid(variables):
    images = RNG.standard_normal((1, 12, 20, 3)).astype(np.float32)
    loss, prediction, mask = forward(variables, images, RNG.random((1, 15)))
    assert prediction.shape == (1, 15, 48)
    assert mask.sum() == 15 - 3
    assert np.isfinite(loss)


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.5, 2.0, 0.99, float("nan")])
def test_ratio_must_leave_something_to_see_and_to_mask(ratio):
    with pytest.raises(ValueError, match=f"mask_ratio: .*{ratio}"):
        visible_patches(16, ratio)


@pytest.mark.parametrize(
    ("images", "noise", "message"),
    [
        (IMAGES, NOISE[:, :15], r"noise: expected shape \(2, 16\), got \(2, 15\)"),
        (IMAGES, NOISE[:1], r"noise: expected shape \(2, 16\), got \(1, 16\)"),
        (IMAGES[0], NOISE, r"images: expected shape \(B, H, W, 3\), got \(16, 16, 3\)"),
        (IMAGES[..., :2], NOISE, r"images: .* got \(2, 16, 16, 2\)"),
        (IMAGES[:, :15], NOISE, "15×16 pixels are not a whole number of 4-pixel patches"),
    ],
)
def test_inputs_are_checked(variables, images, noise, message):
    with pytest.raises(ValueError, match=message):
        forward(variables, images, noise)


@pytest.mark.parametrize(
    ("encoder", "fields", "message"),
    [
        ({"pool": "cls"}, {}, "encoder: .* got pool='cls'"),
        ({"class_token": False}, {}, "encoder: .* class_token=False"),
        ({"position": "none"}, {}, "encoder: .* needs absolute positions .* got position='none'"),
        ({"num_heads": 5}, {}, "num_heads: 5 does not divide width 24"),
        ({}, {"decoder_num_heads": 5}, "decoder_num_heads: 5 does not divide decoder_width 16"),
    ],
)
def test_fields_are_checked(encoder, fields, message):
    sizes = {"image_size": 16, "patch_size": 4, "width": 24, "depth": 1, "num_heads": 3}
    sizes = {**sizes, "num_classes": 0, "pool": "none", **encoder}
    decoder = {"decoder_width": 16, "decoder_depth": 1, "decoder_num_heads": 2, **fields}
    model = MaskedAutoencoder(VisionTransformer(**sizes), **decoder)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), IMAGES, NOISE)


def test_another_network_is_refused_by_what_it_is():
    vit = create_model("vit_micro_patch8", image_size=32)
    with pytest.raises(ValueError, match="model: got a VisionTransformer, expected a MaskedAuto"):
        mae_forward(vit, {}, IMAGES, noise=NOISE)
