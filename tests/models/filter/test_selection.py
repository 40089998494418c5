"""Which pixels are kept: numbers, order, ties, NaN, random draws, and putting tokens back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.filter import selection


@pytest.mark.parametrize(
    ("keep", "tokens", "number"),
    [(1, 1, 1), (7, 49, 7), (49, 49, 49), (1.0, 49, 49), (0.25, 196, 49), (0.01, 20, 1)],
)
def test_number_kept(keep, tokens, number):
    assert selection.number_kept(keep, tokens) == number


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (0, "keep: 0 of 9 tokens; choose between 1 and 9"),
        (-3, "keep: -3 of 9 tokens"),
        (10, "keep: 10 of 9 tokens; choose between 1 and 9"),
        (0.0, "keep: 0.0 is no share of the tokens; choose one above 0, up to 1.0"),
        (1.01, "keep: 1.01 is no share"),
        (float("nan"), "keep: nan is no share"),
        (True, "keep: got True, expected a number of tokens or a share"),
        ("half", "keep: got 'half', expected a number of tokens or a share"),
    ],
)
def test_numbers_that_cannot_be_kept(keep, message):
    with pytest.raises(ValueError, match=message):
        selection.number_kept(keep, 9)


def test_the_best_ascending_and_ties_go_to_the_lower_index():
    scores = jnp.array([[0.5, 0.9, 0.1, 0.9, 0.5], [0.0, 0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(selection.best(scores, 3), [[0, 1, 3], [0, 1, 2]])
    assert selection.best(scores, 3).dtype == jnp.int32


def test_nan_ranks_last_and_never_twice():
    nan = float("nan")
    scores = jnp.array([[nan, 0.2, nan, 0.9, -jnp.inf], [nan] * 5])
    np.testing.assert_array_equal(selection.best(scores, 2), [[1, 3], [0, 1]])


def test_approximate_choice_is_a_choice_of_good_ones():
    scores = jax.random.normal(jax.random.key(0), (4, 3025))
    found = np.asarray(selection.best(scores, 256, approximate=True))
    exact = np.asarray(selection.best(scores, 256))
    assert (np.diff(found) > 0).all()  # ascending, so none twice
    shares = [np.isin(a, b).mean() for a, b in zip(found, exact, strict=True)]
    assert min(shares) >= 0.95  # the recall that lax.approx_max_k aims at


def test_random_draws_are_seeded_distinct_and_per_image():
    draw = selection.random(jax.random.key(0), 8, 100, 30, shared=False)
    assert draw.shape == (8, 30) and (np.diff(draw) > 0).all()
    assert draw.min() >= 0 and draw.max() < 100
    assert len({tuple(row) for row in np.asarray(draw)}) == 8
    np.testing.assert_array_equal(
        draw, selection.random(jax.random.key(0), 8, 100, 30, shared=False)
    )
    assert (draw != selection.random(jax.random.key(1), 8, 100, 30, shared=False)).any()
    shared = selection.random(jax.random.key(0), 8, 100, 30, shared=True)
    assert len({tuple(row) for row in np.asarray(shared)}) == 1


def test_random_draws_are_even():
    draws = selection.random(jax.random.key(3), 4000, 20, 5, shared=False)
    counts = np.bincount(np.asarray(draws).ravel(), minlength=20)
    # Binomial with p = 1/4: five standard deviations of 27.
    assert np.abs(counts - 1000).max() < 137


def test_gather_and_scatter_are_inverse_and_touch_nothing_else():
    x = jax.random.normal(jax.random.key(0), (2, 3, 5, 4))
    kept = jnp.array([[0, 7, 14], [1, 2, 3]], jnp.int32)
    tokens = selection.gather(x, kept)
    np.testing.assert_array_equal(tokens[0, 1], x[0, 1, 2])
    np.testing.assert_array_equal(tokens[1, 2], x[1, 0, 3])
    np.testing.assert_array_equal(selection.scatter(x, kept, tokens), x)
    put = np.asarray(selection.scatter(x, kept, tokens + 1)).reshape(2, 15, 4)
    moved = (put != np.asarray(x).reshape(2, 15, 4)).all(axis=-1)
    np.testing.assert_array_equal(np.flatnonzero(moved[0]), kept[0])
    np.testing.assert_array_equal(np.flatnonzero(moved[1]), kept[1])


@pytest.mark.parametrize(
    "kept",
    [[[0, 1]], [[0, 15], [0, 1]], [[0, -1], [0, 1]], [[3, 3], [0, 1]], [[0.5, 1.0], [0.0, 1.0]]],
)
def test_given_choices_that_there_are_not(kept):
    with pytest.raises(ValueError, match=r"kept: got .*, expected \(B, K\), different numbers"):
        selection.checked_kept(jnp.asarray(kept), 2, 15)
    assert selection.checked_kept(jnp.asarray([[14, 0], [3, 2]]), 2, 15).dtype == jnp.int32


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (14, 11), (33, 32)])
def test_scores_are_a_dilated_convolution(size):
    """The products with zeros and ones against XLA's own convolution."""
    score = selection.Importance()
    x = jax.random.normal(jax.random.key(0), (2, *size, 6))
    variables = score.init(jax.random.key(1), x)
    kernel = variables["params"]["kernel"]
    raw = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(15, 15)] * 2, rhs_dilation=(5, 5),
        dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest",
    )  # fmt: skip
    raw = (raw[..., 0] + variables["params"]["bias"]) / np.sqrt(1 + 1e-5)
    expected = jax.nn.sigmoid(jax.nn.gelu(raw, approximate=False))
    with jax.default_matmul_precision("highest"):
        np.testing.assert_allclose(score.apply(variables, x), expected, atol=1e-6)
