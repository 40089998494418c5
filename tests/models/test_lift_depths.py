"""LiFT's loss at two depths: the quarter's features doubled twice, and what that moves."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.outputs import assert_close, assert_same
from vit_jax_xfer.models.lifting.lift import LiFT


def draw(size=(34, 64)):
    """A network, images with a side that is no multiple of a patch, features of three sizes."""
    model = LiFT(6, 4)
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, *size, 3)).astype(np.float32)
    grids = [(size[0] // 4 // n, size[1] // 4 // n) for n in (1, 2, 4)]
    features = [rng.standard_normal((2, *grid, 6)).astype(np.float32) for grid in grids]
    shapes = jax.eval_shape(model.init, jax.random.key(0), *model.example_inputs())
    variables = jax.tree.map(
        lambda x: jnp.asarray(0.3 + 0.3 * rng.standard_normal(x.shape), jnp.float32), shapes
    )
    variables["batch_stats"] = jax.tree.map(jnp.abs, variables["batch_stats"])
    return model, variables, images, features


def loss_of(**fields):
    """The loss and the statistics of `draw`'s network, compiled."""
    model, *rest = draw()
    function = functools.partial(vjx.dense.lift_loss_and_stats, model, **fields)
    return jax.jit(function)(*rest)


@pytest.mark.parametrize("shrink", ["pick", "resize"])
def test_the_second_doubling_sees_the_half(shrink):
    model, variables, images, (full, half, quarter) = draw()
    seen = {n: vjx.dense.shrink_images(images, n, shrink) for n in (2, 4)}
    stats = {"batch_stats": variables["batch_stats"]}
    apply = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    wanted = 0
    twice = None
    for n, given, target in ((2, half, full), (4, quarter, half), (2, None, full)):
        found, stats = apply({**variables, **stats}, seen[n], twice if given is None else given)
        wanted += jnp.square(found - target).mean()
        twice = found
    loss, updates = loss_of(shrink=shrink, kind="l2", depths=2)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5)
    jax.tree.map(lambda x, y: assert_close(x, y), updates, stats)


def test_one_depth_is_the_published_loss():
    loss, updates = loss_of()
    once, same = loss_of(depths=1)
    assert float(loss) == float(once)
    assert_same(updates, same)
    assert float(loss_of(depths=2)[0]) > float(loss)


def test_a_loss_without_training_moves_nothing_at_any_depth():
    _, variables, *_ = draw()
    _, updates = loss_of(depths=2, train=False)
    assert_same(updates, {"batch_stats": variables["batch_stats"]})


class Scaled(nn.Module):
    """Features copied to twice the grid, times a parameter."""

    patch_size: int = 4

    @nn.compact
    def __call__(self, images, features, train=False):
        return self.param("by", nn.initializers.ones, ()) * copied(features)


def copied(features):
    return features.repeat(2, 1).repeat(2, 2)


def test_gradients_flow_through_both_doublings():
    _, _, images, (full, half, quarter) = draw()

    def loss(by):
        variables = {"params": {"by": by}}
        features = (full, half, quarter)
        return vjx.dense.lift_loss(Scaled(), variables, images, features, kind="l2", depths=2)

    def wanted(by):
        terms = by * copied(half) - full, by * copied(quarter) - half
        terms += (by**2 * copied(copied(quarter)) - full,)
        return sum(jnp.square(term).mean() for term in terms)

    for by in (0.7, -1.3):
        np.testing.assert_allclose(loss(by), wanted(by), rtol=1e-5)
        np.testing.assert_allclose(jax.grad(loss)(by), jax.grad(wanted)(by), rtol=1e-4)


@pytest.mark.parametrize("depths", [0, 3, 1.5, "2"])
def test_other_depths_are_refused(depths):
    model, variables, images, features = draw()
    with pytest.raises(ValueError, match=f"depths: got {depths!r}, expected 1 or 2"):
        vjx.dense.lift_loss(model, variables, images, features, depths=depths)
