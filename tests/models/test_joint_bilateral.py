"""Joint bilateral upsampling against a loop, and at what an edge in the image does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.lifting.joint_bilateral import JointBilateral


def loop(images, features, patch, radius, spatial, color):
    """Kopf's sums in float64, cell by cell."""
    images, features = images.astype(np.float64), features.astype(np.float64)
    batch, h, w, channels = features.shape
    half = patch // 2
    out = np.zeros((batch, 2 * h, 2 * w, channels))
    for b, y, x in np.ndindex(batch, 2 * h, 2 * w):
        here = images[b, y * half : (y + 1) * half, x * half : (x + 1) * half].mean((0, 1))
        total = 0.0
        for i in range(max(0, y // 2 - radius), min(h, y // 2 + radius + 1)):
            for j in range(max(0, x // 2 - radius), min(w, x // 2 + radius + 1)):
                there = images[b, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
                apart = ((y + 0.5) / 2 - i - 0.5) ** 2 + ((x + 0.5) / 2 - j - 0.5) ** 2
                unlike = ((here - there.mean((0, 1))) ** 2).sum()
                weight = np.exp(-apart / (2 * spatial**2) - unlike / (2 * color**2))
                out[b, y, x] += weight * features[b, i, j]
                total += weight
        out[b, y, x] /= total
    return out


def draw(size, patch, width=4, seed=0):
    rng = np.random.default_rng(seed)
    images = (1.5 + rng.standard_normal((2, *size, 3))).astype(np.float32)
    grid = (size[0] // patch, size[1] // patch)
    return images, rng.standard_normal((2, *grid, width)).astype(np.float32)


@pytest.mark.parametrize(
    ("patch", "size", "radius", "spatial", "color"),
    [(8, (32, 24), 2, 0.5, 0.5), (4, (19, 14), 1, 0.7, 0.2), (2, (8, 18), 3, 1.5, 1.0)],
)
def test_equals_a_loop(patch, size, radius, spatial, color):
    images, features = draw(size, patch)
    model = JointBilateral(patch, radius, spatial, color)
    found = jax.jit(model.apply)({}, images, features)
    wanted = loop(images, features, patch, radius, spatial, color)
    np.testing.assert_allclose(found, wanted, atol=2e-4)


def test_features_stop_at_an_edge_of_the_image():
    images = np.zeros((1, 32, 64, 3), np.float32)
    images[:, :, 28:] = 2.0  # in the middle of the fourth patch of eight
    features = np.zeros((1, 4, 8, 1), np.float32)
    features[:, :, 4:] = 1.0
    sharp = vjx.dense.lift(JointBilateral(8, range_sigma=0.3), {}, images, features, 1)[0, 2, :, 0]
    # The fourth patch's right half looks like its right neighbours, its left half like the left.
    assert sharp[6] < 0.05 and sharp[7] > 0.5
    np.testing.assert_allclose(sharp[:5], 0, atol=1e-3)
    np.testing.assert_allclose(sharp[8:], 1, atol=0.05)
    # A wide sigma sees distances alone, and so the same for any image.
    wide = JointBilateral(8, range_sigma=1e4)
    blind = wide.apply({}, images, features)
    np.testing.assert_allclose(blind, wide.apply({}, 0 * images, features), atol=1e-5)


@pytest.mark.parametrize(("patch", "size"), [(14, (33, 43)), (7, (7, 22)), (1, (3, 5))])
def test_any_size_and_again(patch, size):
    images, features = draw(size, patch)
    found = np.asarray(vjx.dense.lift(JointBilateral(patch), {}, images, features, steps=2))
    grid = features.shape[1:3]
    assert found.shape == (2, 4 * grid[0], 4 * grid[1], 4)
    assert (found >= features.min((1, 2), keepdims=True) - 1e-5).all()
    assert (found <= features.max((1, 2), keepdims=True) + 1e-5).all()
    constant = np.ones_like(features)
    np.testing.assert_allclose(JointBilateral(patch).apply({}, images, constant), 1, rtol=1e-5)


def test_it_has_no_variables_and_trains_nothing():
    images, features = draw((16, 16), 8)
    model = JointBilateral(8, width=4)
    assert jax.eval_shape(model.init, jax.random.key(0), *model.example_inputs()) == {}
    found, updates = model.apply({}, images, features, True, mutable=["batch_stats"])
    assert not updates
    np.testing.assert_array_equal(found, model.apply({}, images, features))
    half = model.apply({}, images, jnp.asarray(features, jnp.bfloat16))
    assert half.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"range_sigma": 0.0}, "range_sigma: got 0.0, expected more than 0"),
        ({"spatial_sigma": -1}, "spatial_sigma: got -1, expected more than 0"),
        ({"radius": 0}, "radius: got 0, expected a whole number from 1 on"),
        ({"width": 5}, r"features: got shape \(2, 2, 2, 4\), expected \(2, 2, 2, 5\)"),
        ({"patch_size": 32}, "images: 16×16 pixels are smaller than one 32-pixel patch"),
    ],
)
def test_what_does_not_fit_is_named(fields, message):
    images, features = draw((16, 16), 8)
    with pytest.raises(ValueError, match=message):
        JointBilateral(**{"patch_size": 8, **fields}).apply({}, images, features)
    with pytest.raises(ValueError, match="width: None is any"):
        JointBilateral(8).example_inputs()
