"""LeGrad, SmoothGrad, integrated gradients and input × gradient by their definitions, in numpy."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.explain.methods.numpy_vit import NumpyVit, slopes
from tests.native import draw

TARGET = 2


@pytest.fixture(scope="module")
def network():
    """A tiny network as ours and as numpy's, and an image."""
    model = vjx.VisionTransformer(
        image_size=4, patch_size=2, width=8, depth=2, num_heads=2, num_classes=3, mlp_dim=8
    )
    variables = draw(model, 0)
    image = np.random.default_rng(1).standard_normal((1, 4, 4, 3)).astype(np.float32)
    return model, variables, image, NumpyVit(model, variables["params"])


def explain(network, method, **options):
    model, variables, image, _ = network
    return vjx.explain.attribute(model, variables, image, method, target=TARGET, **options)


def close(ours, reference):
    np.testing.assert_allclose(ours, reference, atol=1e-5 * np.abs(reference).max(), rtol=1e-4)


@pytest.mark.parametrize("start_layer", [0, -1])
def test_legrad(network, start_layer):
    *_, image, reference = network
    tokens, maps = reference.embed(image[0].astype(np.float64)), []
    for layer in range(reference.depth):
        after, weights = reference.block(tokens, layer)

        def score(moved, tokens=tokens, layer=layer):
            return reference.classify(reference.block(tokens, layer, moved)[0].mean(0))[TARGET]

        maps.append(np.maximum(slopes(score, np.zeros(weights.shape)), 0).mean((0, 1)))
        tokens = after
    out = explain(network, "legrad", start_layer=start_layer)
    close(out.tokens[0], np.mean(maps[start_layer:], axis=0))
    # Both come of one program, which may compute the mean once for each: a rounding apart.
    np.testing.assert_allclose(out.map, out.tokens[:, 1:].reshape(1, 2, 2), rtol=2e-7)


def test_legrad_needs_no_map(network):
    """Slopes by maps come of what attention gives, so that any kernel may give it."""
    called = set()

    def watch(next_fun, args, kwargs, context):
        called.add(context.method_name)
        return next_fun(*args, **kwargs)

    with nn.intercept_methods(watch):
        explain(network, "legrad", start_layer=1)  # as in no other test, lest it be traced already
    assert "attend" in called
    assert not called & {"attention_map", "apply_map"}


def by_pixels(network, image):
    reference = network[-1]
    return slopes(lambda x: reference.logits(x)[TARGET], np.asarray(image, np.float64))


def test_input_x_gradient(network):
    image = network[2][0]
    out = explain(network, "input_x_gradient")
    close(out.pixels[0], (image * by_pixels(network, image)).sum(-1))
    # A cell is the sum of its pixels.
    cells = np.asarray(out.pixels).reshape(2, 2, 2, 2).sum((1, 3))
    np.testing.assert_allclose(out.map[0], cells, rtol=1e-4, atol=1e-6)


def test_integrated_gradients(network):
    image, steps, baseline = network[2][0].astype(np.float64), 3, 0.5
    points = [baseline + (i + 0.5) / steps * (image - baseline) for i in range(steps)]
    mean = np.mean([by_pixels(network, point) for point in points], axis=0)
    out = explain(network, "integrated_gradients", steps=steps, baseline=baseline)
    close(out.pixels[0], ((image - baseline) * mean).sum(-1))


def test_integrated_gradients_are_complete(network):
    image, reference = network[2][0], network[-1]
    out = explain(network, "integrated_gradients", steps=200)
    difference = reference.logits(image)[TARGET] - reference.logits(0 * image)[TARGET]
    np.testing.assert_allclose(out.pixels.sum(), difference, rtol=1e-3)


def test_smoothgrad(network):
    image, samples, noise, seed = network[2], 3, 0.2, 5
    keys = jax.random.split(jax.random.key(seed), samples)
    width = noise * (image.max() - image.min())
    copies = [image[0] + width * np.asarray(jax.random.normal(key, image.shape))[0] for key in keys]
    mean = np.mean([by_pixels(network, copy) for copy in copies], axis=0)
    out = explain(network, "smoothgrad", samples=samples, noise=noise, seed=seed)
    close(out.pixels[0], np.abs(mean).sum(-1))
