"""Drop path: branches dropped per image, drawn from one key for the whole depth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.transformer.drop_path import branch_factors
from vit_jax_xfer.models.vit import VisionTransformer

# The shapes of the published cases: run op by op, equal shapes are compiled once for all files.
IMAGES = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
MODEL = VisionTransformer(
    image_size=32, patch_size=8, width=48, depth=3, num_heads=3, num_classes=10, drop_path=0.5
)


@pytest.fixture(scope="module")
def variables():
    shapes = jax.eval_shape(MODEL.init, jax.random.key(0), IMAGES)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype), shapes)


def test_factors_keep_the_expectation_and_grow_with_depth():
    factors = np.asarray(branch_factors(jax.random.key(0), 4, 20000, 0.6))
    assert factors.shape == (4, 2, 20000)
    np.testing.assert_allclose(factors.mean(axis=2), 1, atol=0.05)
    dropped = (factors == 0).mean(axis=2)
    np.testing.assert_allclose(dropped, np.array([[0], [0.2], [0.4], [0.6]]) + [0, 0], atol=0.02)
    for layer, keep in enumerate((1, 0.8, 0.6, 0.4)):
        kept = factors[layer][factors[layer] > 0]
        np.testing.assert_allclose(kept, 1 / keep, rtol=1e-6)
    # Images, branches and layers are drawn apart.
    apart = np.corrcoef(np.reshape(factors[1:] > 0, (6, -1)))
    np.testing.assert_allclose(apart, np.eye(6), atol=0.05)


def test_same_key_same_branches(variables):
    one, same, other = (
        MODEL.apply(variables, IMAGES, True, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-2


def test_a_rate_of_zero_and_evaluation_draw_nothing(variables):
    wanted = MODEL.apply(variables, IMAGES)
    np.testing.assert_array_equal(MODEL.clone(drop_path=0.0).apply(variables, IMAGES, True), wanted)


def test_a_dropped_branch_adds_nothing(variables, monkeypatch):
    """With all factors 0 the blocks pass their input on; with all 1 nothing changes."""
    import vit_jax_xfer.models.vit as module

    def output(value):
        factors = lambda key, depth, batch, rate: jnp.full((depth, 2, batch), value)  # noqa: E731
        monkeypatch.setattr(module, "branch_factors", factors)
        rngs = {"dropout": jax.random.key(0)}
        _, out = MODEL.apply(variables, IMAGES, True, rngs=rngs, mutable=["residual"])
        return [out["residual"][f"blocks_{i}"]["stream"] for i in range(3)]

    first, *others = output(0.0)
    for stream in others:
        np.testing.assert_array_equal(stream, first)
    _, whole = MODEL.apply(variables, IMAGES, mutable=["residual"])
    np.testing.assert_allclose(output(1.0)[2], whole["residual"]["blocks_2"]["stream"], rtol=1e-5)
