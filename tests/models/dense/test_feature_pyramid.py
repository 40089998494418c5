"""A feature pyramid against the same sums in numpy, on maps that don't halve evenly."""

import jax
import numpy as np
import pytest

from vit_jax_xfer.models.dense.feature_pyramid import FeaturePyramid


def normed(x, about):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * about["scale"] + about["bias"]


def convolved(x, kernel):
    """3×3 with zeros around; a kernel (3, 3, 1, C) sees a channel at a time."""
    h, w = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [(i, j, padded[:, i : i + h, j : j + w]) for i in range(3) for j in range(3)]
    if kernel.shape[2] == 1:
        return sum(tap * kernel[i, j, 0] for i, j, tap in taps)
    return sum(tap @ kernel[i, j] for i, j, tap in taps)


@pytest.mark.parametrize("light", [False, True])
def test_levels_are_laterals_and_what_the_coarser_see(light):
    numbers = np.random.default_rng(0)
    maps = [numbers.normal(size=(2, *shape)).astype(np.float32) for shape in ((5, 7, 3), (3, 4, 6))]
    model = FeaturePyramid(4, extra=2, light=light)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tuple(maps))
    variables = jax.tree.map(lambda x: numbers.normal(size=x.shape).astype(np.float32), shapes)
    params = variables["params"]
    lateral = [
        normed(x @ params[f"lateral_{i}"]["kernel"][0, 0], params[f"lateral_{i}_norm"])
        for i, x in enumerate(maps)
    ]
    lateral[0] = lateral[0] + np.repeat(np.repeat(lateral[1], 2, 1), 2, 2)[:, :5, :7]
    wanted = []
    for i, x in enumerate(lateral):
        if light:
            x = convolved(x, params[f"depthwise_{i}"]["kernel"])
            x = x @ params[f"output_{i}"]["kernel"][0, 0]
        else:
            x = convolved(x, params[f"output_{i}"]["kernel"])
        wanted.append(normed(x, params[f"output_{i}_norm"]))
    wanted += [wanted[-1][:, ::2, ::2], wanted[-1][:, ::4, ::4]]
    found = jax.jit(model.apply)(variables, tuple(maps))
    assert model.strides_of((4, 8)) == (4, 8, 16, 32)
    for ours, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5)
