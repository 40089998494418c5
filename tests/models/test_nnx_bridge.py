"""A network for NNX: the same outputs and gradients, draws by its rngs, collections that stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import vit_jax_xfer as vjx

IMAGES = np.linspace(-1, 1, 2 * 8 * 8 * 3, dtype=np.float32).reshape(2, 8, 8, 3)


@pytest.fixture(scope="module")
def network():
    fields = {"image_size": 8, "width": 8, "depth": 2, "num_heads": 2, "num_classes": 3}
    model = vjx.create_model("vit_micro_patch4", drop_path=0.5, **fields)
    return model, model.init_variables(jax.random.key(0))


def test_outputs_are_the_networks_and_collections_stay(network):
    model, variables = network
    module = vjx.to_nnx(model, variables)
    jax.tree.map(
        np.testing.assert_array_equal,
        nnx.to_pure_dict(nnx.state(module, nnx.Param)),
        variables["params"],
    )

    @nnx.jit
    def run(module):
        return module(IMAGES, mutable=["attention"])

    expected, collections = jax.jit(lambda x: model.apply(x, IMAGES, mutable=["attention"]))(
        variables
    )
    np.testing.assert_allclose(run(module), expected, rtol=1e-5, atol=1e-6)
    kept = jax.tree.leaves(nnx.state(module, nnx.Not(nnx.Param)))
    for one, other in zip(kept, jax.tree.leaves(collections), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_gradients_are_the_networks(network):
    model, variables = network
    found = nnx.jit(nnx.grad(lambda module: jnp.sum(module(IMAGES) ** 2)))(
        vjx.to_nnx(model, variables)
    )
    expected = jax.jit(jax.grad(lambda one: jnp.sum(model.apply(one, IMAGES) ** 2)))(variables)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
        nnx.to_pure_dict(found),
        expected["params"],
    )


def test_training_draws_by_the_modules_rngs(network):
    module = vjx.to_nnx(*network, nnx.Rngs(dropout=0))
    run = nnx.jit(lambda module: module(IMAGES, train=True))
    drawn = [np.asarray(run(module)) for _ in range(8)]
    assert any((one != drawn[0]).any() for one in drawn)


def test_collections_that_are_no_parameters_come_along():
    model = vjx.create_model("filter_vit_micro", image_size=16, num_classes=2)
    shapes = jax.eval_shape(model.init_variables, jax.random.key(0))
    variables = jax.tree.map(lambda x: np.ones(x.shape, x.dtype), shapes)
    module = vjx.to_nnx(model, variables)
    for name, kind in (("params", nnx.Param), ("batch_stats", nnx.Not(nnx.Param))):
        found = jax.tree.leaves(nnx.state(module, kind))
        assert len(found) == len(jax.tree.leaves(variables[name])) > 0


def test_what_has_no_parameters_is_refused(network):
    with pytest.raises(ValueError, match="variables: expected {'params': …}, got head, norm"):
        vjx.to_nnx(network[0], {"head": {}, "norm": {}})
