"""Linear CKA: reference values, the definitions by matrices in float64, and invariances."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from vit_jax_xfer.evaluate.similarity.cka import hsic_terms, linear_cka, minibatch_cka, scale_cka


def by_matrices(x, y, unbiased):
    """CKA from the kernels' matrices, as the papers write it."""
    n = len(x)
    kernels = [z.astype(np.float64) @ z.astype(np.float64).T for z in (x, y)]
    ones = np.ones(n)

    def hsic(k, other):
        if not unbiased:
            centre = np.eye(n) - 1 / n
            return np.trace(k @ centre @ other @ centre)
        k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
        terms = np.trace(k @ other) + (ones @ k @ ones) * (ones @ other @ ones) / (n - 1) / (n - 2)
        return (terms - 2 / (n - 2) * ones @ k @ other @ ones) / (n * (n - 3))

    k, other = kernels
    return hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


def related(n, p, q, seed=0, offset=3.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p)) * rng.uniform(0.1, 4, p)
    y = x @ rng.standard_normal((p, q)) + 2 * rng.standard_normal((n, q))
    return (x + offset).astype(np.float32), y.astype(np.float32)


def test_reference_values(golden_case):
    meta, arrays, _ = golden_case("explain/cka")
    size = meta["batch_size"]
    for name in ("y", "r", "x"):
        x, other = arrays["x"], arrays[name]
        expected = {kind: arrays[f"{kind}_x{name}"] for kind in ("linear", "unbiased", "minibatch")}
        batches = [(x[i : i + size], other[i : i + size]) for i in range(0, len(x), size)]
        np.testing.assert_allclose(linear_cka(x, other), expected["linear"], rtol=1e-5)
        found = linear_cka(x, other, unbiased=True), minibatch_cka(batches)
        np.testing.assert_allclose(found[0], expected["unbiased"], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found[1], expected["minibatch"], rtol=1e-4, atol=1e-6)
        terms = hsic_terms(x, other, unbiased=True)
        np.testing.assert_allclose(terms[0], arrays[f"hsic1_x{name}"], rtol=1e-4)


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", [(40, 6, 9), (12, 50, 7), (12, 7, 50), (5, 5, 5)])
def test_the_definition(shape, unbiased):
    x, y = related(*shape)
    expected = by_matrices(x, y, unbiased)
    np.testing.assert_allclose(linear_cka(x, y, unbiased), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("unbiased", [False, True])
def test_rotation_scale_and_offset_do_not_matter(unbiased):
    x, y = related(60, 8, 5)
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((8, 8)))[0]
    plain = linear_cka(x, y, unbiased)
    for scale in (1e-8, 7.0, 1e12):
        turned = ((x @ turn) * scale).astype(np.float32)
        np.testing.assert_allclose(linear_cka(turned, y, unbiased), plain, rtol=1e-4)
        np.testing.assert_allclose(linear_cka(turned, x, unbiased), 1, rtol=1e-5)


def test_unrelated_features_are_unlike_without_bias():
    x, y = np.random.default_rng(0).standard_normal((2, 64, 256))
    assert linear_cka(x, y) > 0.7
    assert abs(linear_cka(x, y, unbiased=True)) < 0.05


@pytest.mark.parametrize("unbiased", [False, True])
def test_many_rows_far_from_zero(unbiased):
    # Sums of 100,000 float32 rows whose mean is 10,000 times their spread.
    x, y = related(100_000, 6, 5, offset=3e4)
    centred = x.astype(np.float64) - x.astype(np.float64).mean(0), y - y.mean(0, np.float64)
    cross, first, second = (
        np.square(a.T @ b).sum() for a, b in (centred, (centred[0],) * 2, (centred[1],) * 2)
    )
    # The bias is of the order of 1 / n here.
    found = linear_cka(x, y, unbiased)
    np.testing.assert_allclose(found, cross / np.sqrt(first * second), rtol=3e-4)


@pytest.mark.parametrize("unbiased", [False, True])
def test_constant_features_are_like_nothing(unbiased):
    x, _ = related(50, 4, 4)
    for constant in (np.zeros((50, 3)), np.full((50, 3), 0.1), np.tile([1e4, -0.3, 7], (50, 1))):
        assert float(linear_cka(x, constant, unbiased)) == 0
        assert float(linear_cka(constant, constant, unbiased)) == 0
    many = np.tile([0.1, -7.3], (100_001, 1))
    assert float(linear_cka(many, many, unbiased)) == 0


@pytest.mark.parametrize("unbiased", [False, True])
def test_feature_maps_of_two_sizes(unbiased):
    rng = np.random.default_rng(0)
    small = rng.standard_normal((3, 4, 6, 9)).astype(np.float32)
    large = rng.standard_normal((3, 8, 15, 2)).astype(np.float32)
    large[:, ::2, 1::3, 0] += small[:, :, :5, 0]
    maps = [[Image.fromarray(image[..., c]) for c in range(2)] for image in large]
    shrunk = [[m.resize((6, 4), Image.Resampling.BILINEAR) for m in image] for image in maps]
    rows = np.moveaxis(np.array([[np.asarray(m) for m in image] for image in shrunk]), 1, -1)
    expected = linear_cka(small.reshape(72, 9), rows.reshape(72, 2), unbiased)
    np.testing.assert_allclose(scale_cka(small, large, unbiased), expected, rtol=1e-4)
    np.testing.assert_allclose(scale_cka(small, 3 * small, unbiased), 1, rtol=1e-5)


def test_bad_input_is_named():
    x, y = related(10, 4, 3)
    with pytest.raises(ValueError, match="x, y: expected at least 4 rows, got 3"):
        linear_cka(x[:3], y[:3], unbiased=True)
    with pytest.raises(ValueError, match="y: got 9, x's n has 10"):
        linear_cka(x, y[:9])
    with pytest.raises(ValueError, match="y: 1 of 30 values are NaN"):
        linear_cka(x, jnp.asarray(y).at[2, 1].set(jnp.inf))
    with pytest.raises(ValueError, match="large: its grid .2, 2. is below small's .4, 4."):
        scale_cka(np.ones((2, 4, 4, 3)), np.ones((2, 2, 2, 3)))
    with pytest.raises(ValueError, match="batches: got none"):
        minibatch_cka([])
