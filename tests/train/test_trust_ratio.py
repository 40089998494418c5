"""LARS, LAMB and SGD against written-out arithmetic of published code; stacked layers; freezing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vit_jax_xfer.train import optimizer

RATES = (0.5, 0.25, 0.125)


def tree(seed):
    """A head's parameters or gradients in float64."""
    rng = np.random.default_rng(seed)
    return {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}


def after(name, params, grads, layer_decay=1.0, rules=(), **settings):
    """Parameters after a step for each of the gradients, by our optimizer in float32."""
    params, grads = jax.tree.map(jnp.float32, (params, grads))
    rates = jnp.array(RATES)
    given = {"weight_decay": 0.1, "b1": 0.9, "b2": 0.99, "clip_norm": 0.0, "name": name, **settings}
    scales = optimizer.scale_tree(params, 2, layer_decay, rules)
    tx = optimizer.make_optimizer(lambda step: rates[step], scales, **given)
    state = tx.init(params)
    for gradient in grads:
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def lars(param, grads, decays):
    """MAE's rule: decay and ratio for matrices alone, the rate after the momentum."""
    momentum = 0.0
    for rate, gradient in zip(RATES, grads, strict=True):
        if decays:
            gradient = gradient + 0.1 * param
            gradient = gradient * 0.01 * np.linalg.norm(param) / np.linalg.norm(gradient)
        momentum = 0.9 * momentum + gradient
        param = param - rate * momentum
    return param


def lamb(param, grads, decays):
    """NVIDIA's rule, without its clipping: Adam's step and the decay, by the ratio of norms."""
    mean = square = 0.0
    for step, (rate, gradient) in enumerate(zip(RATES, grads, strict=True), start=1):
        mean, square = 0.9 * mean + 0.1 * gradient, 0.99 * square + 0.01 * gradient**2
        update = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.99**step)) + 1e-8)
        if decays:
            update = update + 0.1 * param
            update = update * np.linalg.norm(param) / np.linalg.norm(update)
        param = param - rate * update
    return param


def sgd(param, grads, decays, nesterov=False):
    """PyTorch's rule, without its dampening: Nesterov's looks a step of the momentum ahead."""
    momentum = 0.0
    for rate, gradient in zip(RATES, grads, strict=True):
        gradient = gradient + 0.1 * param * decays
        momentum = 0.9 * momentum + gradient
        param = param - rate * (gradient + 0.9 * momentum if nesterov else momentum)
    return param


RULES = {"lars": lars, "lamb": lamb, "sgd": sgd}
RULES["nesterov"] = functools.partial(sgd, nesterov=True)


@pytest.mark.parametrize(("name", "rule"), RULES.items())
def test_three_steps_are_those_of_the_published_code(name, rule):
    params, grads = tree(0), [tree(seed) for seed in (1, 2, 3)]
    found = after(name, {"head": params}, [{"head": one} for one in grads], trust_coefficient=0.01)
    for leaf, decays in (("kernel", True), ("bias", False)):
        wanted = rule(params[leaf], [one[leaf] for one in grads], decays)
        np.testing.assert_allclose(found["head"][leaf], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["lars", "lamb"])
def test_stacked_layers_have_ratios_of_their_own(name):
    def layer(seed):
        return {"mlp": {"fc1": tree(seed)}}

    single = {f"blocks_{i}": layer(i) for i in range(2)}
    grads = [{f"blocks_{i}": layer(10 * step + i) for i in range(2)} for step in (1, 2, 3)]

    def stack(tree):
        return {"blocks": jax.tree.map(lambda *x: np.stack(x), tree["blocks_0"], tree["blocks_1"])}

    wanted = stack(after(name, single, grads, layer_decay=0.5))
    found = after(name, stack(single), [stack(one) for one in grads], layer_decay=0.5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, wanted)


def test_frozen_parameters_stay_and_have_no_momentum():
    params = {"head": tree(0), "norm": {"scale": np.ones(5)}}
    rules = [("head/.*", 1.0), (".*", 0.0)]
    found = after("lars", params, [params] * 3, rules=rules)
    np.testing.assert_array_equal(found["norm"]["scale"], 1.0)
    assert (found["head"]["kernel"] != np.float32(params["head"]["kernel"])).all()
