"""What counts as a hit: numbers that are none, ties, distributions, classes left out."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax_xfer.evaluate.classification import classification_sums, cross_entropy, hits
from vit_jax_xfer.tasks.supervised import top1
from vit_jax_xfer.tasks.task import smoothed_cross_entropy

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(40, 8)).astype(np.float32)
LABELS = RNG.integers(0, 8, 40)
NAN, INF = jnp.nan, jnp.inf


def figures(logits, targets, **fields):
    logits = jnp.asarray(logits, jnp.float32)
    sums = classification_sums(logits, jnp.asarray(targets), jnp.ones(len(logits), bool), **fields)
    return {name: float(value) for name, value in sums.items()}


def test_distinct_logits_are_ranked_as_numpy_does():
    ranks = (LOGITS[np.arange(40), LABELS][:, None] < LOGITS).sum(1)
    found = figures(LOGITS, LABELS)
    assert (found["top1"], found["top5"]) == ((ranks < 1).sum(), (ranks < 5).sum())
    assert found["count"] == 40
    wanted = optax.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS).sum()
    assert found["loss"] == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "top", "top_two"),
    [
        ([NAN, NAN, NAN], 0, 0),
        ([NAN, 0, 0], 0, 0),  # of the true class alone
        ([3, NAN, 0], 0, 1),  # of another one: that is above
        ([3, NAN, NAN], 0, 0),
        ([INF, 0, 0], 1, 1),
        ([INF, INF, 0], 0, 1),
        ([-INF, -INF, -INF], 0, 0),
        ([0, -INF, -INF], 1, 1),
        ([1, 1, 0], 0, 1),  # a tie is a miss …
        ([1, 1, 1], 0, 0),
        ([1, 0, 0], 1, 1),  # … though not one of others
    ],
)
def test_ties_and_what_is_no_number(logits, top, top_two):
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]):  # the classes' order counts nothing
        row = jnp.asarray(logits, jnp.float32)[jnp.array(order)][None]
        target = jnp.array([order.index(0)])
        assert [bool(hits(row, target, k)[0]) for k in (1, 2)] == [top, top_two]
        assert float(top1(row, target)) == top == figures(row, target)["top1"]


@pytest.mark.parametrize("k", [1, 5, 8])
def test_a_class_that_there_is_not_is_never_hit(k):
    assert not hits(jnp.asarray(LOGITS[:2]), jnp.array([-1, 8]), k).any()


def test_a_distribution_of_one_class_is_that_class():
    shares = np.eye(8, dtype=np.float32)[LABELS]
    assert figures(LOGITS, shares) == pytest.approx(figures(LOGITS, LABELS))
    for smoothing in (0.0, 0.1):
        np.testing.assert_array_equal(
            smoothed_cross_entropy(LOGITS, jnp.asarray(shares), smoothing),
            smoothed_cross_entropy(LOGITS, jnp.asarray(LABELS), smoothing),
        )


def test_a_distribution_over_two_classes():
    shares = np.float32([[0.7, 0.3, 0], [0.5, 0.5, 0]])
    logits = jnp.array([[1.0, 2, 0], [1, 2, 0]])
    # The greater share is the true class; of equal ones that of the higher logit.
    assert hits(logits, shares, 1).tolist() == [False, True]
    log_probs = np.log(np.exp([1, 2, 0]) / np.exp([1, 2, 0]).sum())
    wanted = [-(share * log_probs).sum() for share in shares]
    np.testing.assert_allclose(cross_entropy(logits, shares), wanted, rtol=1e-6)
    np.testing.assert_allclose(smoothed_cross_entropy(logits, shares, 0.0), wanted, rtol=1e-6)
    even = np.full(3, 1 / 3)
    wanted = [-((0.7 * share + 0.3 * even) * log_probs).sum() for share in shares]
    np.testing.assert_allclose(smoothed_cross_entropy(logits, shares, 0.3), wanted, rtol=1e-6)


def test_classes_left_out_are_as_if_the_network_had_none():
    scored = np.array([False, True, True, False, True, True, True, True])
    kept = np.flatnonzero(scored)
    labels = RNG.choice(kept, 40)
    found = figures(LOGITS, labels, scored=jnp.asarray(scored))
    alone = figures(LOGITS[:, kept], np.searchsorted(kept, labels))
    assert found == pytest.approx(alone) and np.isfinite(found["loss"])
    assert found["top1"] > figures(LOGITS, labels)["top1"]


def test_padding_counts_nothing():
    mask = jnp.arange(40) < 30
    logits = jnp.where(mask[:, None], LOGITS, jnp.nan)
    found = jax.tree.map(float, classification_sums(logits, jnp.asarray(LABELS), mask))
    assert found == pytest.approx(figures(LOGITS[:30], LABELS[:30]))
