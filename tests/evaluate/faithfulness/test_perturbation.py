"""Curves of perturbed images: reference values, SaCo by its definition, and a network by hand."""

import functools

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.outputs import assert_close
from vit_jax_xfer.evaluate.faithfulness.perturbation import FRACTIONS, area, predicted
from vit_jax_xfer.explain import abpc, blurred, even_steps, perturb, saco


@pytest.fixture(scope="module")
def reference(golden_case):
    meta, arrays, state = golden_case("explain/faithfulness")
    return meta, arrays, *vjx.load_pretrained(state, num_heads=meta["heads"])


def test_reference_values(reference):
    meta, arrays, *network = reference
    images, maps, steps = arrays["image"], arrays["map"], arrays["steps"]
    blur = blurred(images, meta["blur"]["kernel"], meta["blur"]["sigma"])
    assert_close(blur, arrays["blurred"])
    np.testing.assert_array_equal(predicted(*network, images), arrays["target"])
    calls = {
        "deletion": {},
        "insertion": {"baseline": blur},
        "deletion_lif": {"order": "least"},
    }
    for name, options in calls.items():
        found = perturb(*network, images, maps, steps, **options)
        assert_close(found.probabilities, arrays[f"{name}_prob"], name, 1e-4)
        assert_close(found.auc, arrays[f"{name}_auc"], name, 1e-4)
    steps = [int(maps[0].size * share) for share in FRACTIONS]
    for name, order in (("positive", "most"), ("negative", "least")):
        found = perturb(*network, images, maps, steps, order, fill=-1.0)
        assert_close(found.probabilities, arrays[f"{name}_prob"], name, 1e-4)
        np.testing.assert_array_equal(found.hits, arrays[f"{name}_hit"])
        assert_close(0.8 * found.auc, arrays[f"{name}_auc_prob"], name, 1e-4)
        assert_close(0.8 * area(found.hits), arrays[f"{name}_auc_hit"], name, 1e-4)


def test_reference_values_of_patches(reference):
    _, arrays, *network = reference
    images, maps = arrays["image"], arrays["patch_map"]
    for name, order in (("patch_deletion", "most"), ("patch_deletion_lif", "least")):
        found = perturb(*network, images, maps, even_steps(16, 16), order)
        assert_close(found.probabilities, arrays[f"{name}_prob"], name, 1e-4)
    found = abpc(*network, images, maps, even_steps(16, 16))
    assert_close(found, arrays["patch_abpc"], tolerance=1e-4)


class Weighing(nn.Module):
    """Two classes; the logit of the second is the sum of pixels times weights (4, 4)."""

    @nn.compact
    def __call__(self, images):
        weights = self.param("weights", nn.initializers.zeros, (4, 4))
        score = (images.mean(-1) * weights).sum((1, 2))
        return jnp.stack([jnp.zeros_like(score), score], axis=-1)


def weighing(weights):
    return Weighing(), {"params": {"weights": jnp.asarray(weights, jnp.float32)}}


def chance(score):
    return 1 / (1 + np.exp(-np.asarray(score, np.float64)))


def test_saco_is_its_definition():
    """Wu et al.'s double loop in float64, of a network whose answer is known in closed form."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((3, 4, 4, 3)).astype(np.float32)
    weights, maps = rng.standard_normal((4, 4)), rng.standard_normal((3, 4, 4))
    maps[2] = 1.0
    groups = 5
    wanted = []
    for image, found in zip(images.astype(np.float64), maps, strict=True):
        order = np.argsort(-found.ravel(), kind="stable")
        parts = [order[16 * i // groups : 16 * (i + 1) // groups] for i in range(groups)]
        whole = (image.mean(-1) * weights).sum()
        side = 1 if whole > 0 else -1
        effects = []
        for part in parts:
            changed = image.reshape(16, 3).copy()
            changed[part] = image.mean((0, 1))
            score = (changed.mean(-1) * weights.ravel()).sum()
            effects.append(chance(side * whole) - chance(side * score))
        sums = [found.ravel()[part].sum() for part in parts]
        total = agreed = 0.0
        for i in range(groups):
            for j in range(i + 1, groups):
                weight = sums[i] - sums[j]
                agreed += weight if effects[i] >= effects[j] else -weight
                total += abs(weight)
        # The third map is even: its groups of 3 and 4 cells differ in their sums alone.
        wanted.append(agreed / total)
    found = saco(*weighing(weights), images, maps, groups)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert saco(*weighing(weights), images, maps, 4)[2] == 0


def test_a_map_that_is_right_is_faithful_and_its_opposite_is_not():
    weights = np.arange(16.0).reshape(4, 4) / 8
    images = np.ones((1, 4, 4, 3), np.float32)
    network = weighing(weights)
    steps = even_steps(16, 16)
    right = abpc(*network, images, weights[None], steps)
    np.testing.assert_allclose(abpc(*network, images, -weights[None], steps), -right, atol=1e-6)
    assert right > 0.1
    score = lambda maps: saco(*network, images, maps, 8, fill=0.0)  # noqa: E731
    assert score(weights[None]) == 1
    assert score(-weights[None]) == -1
    # Pixel after pixel, in closed form; equal values go row by row in both orders.
    for order in ("most", "least"):
        found = perturb(*network, images, np.zeros((1, 4, 4)), steps, order)
        left = weights.sum() - np.append(0, np.cumsum(weights.ravel()))
        np.testing.assert_allclose(found.probabilities[0], chance(left), rtol=1e-5)
    # The first row of cells is the first two of pixels.
    found = perturb(*network, images, [[[1, 1], [0, 0]]], [0, 2])
    np.testing.assert_allclose(found.probabilities[0, 1], chance(weights[2:].sum()), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": np.zeros((1, 3, 4))}, r"maps: expected \(1, 4, 4\), or cells that divide it"),
        ({"maps": np.full((1, 4, 4), np.nan)}, "maps: 16 of 16 values are NaN"),
        ({"steps": [3]}, r"steps: expected two or more numbers of cells, got \[3\]"),
        ({"steps": [0, 17]}, "steps: got 0 to 17, expected 0 to 16"),
        ({"order": "best"}, "order: 'best' is neither most nor least"),
        ({"fill": np.zeros(2)}, r"fill: expected a number or 3 of them, got shape \(2,\)"),
        ({"baseline": np.zeros((1, 2, 2, 3))}, r"baseline: got \(1, 2, 2, 3\), images has"),
        ({"target": 9}, "target: this network's classes are 0 … 1, got 9"),
        ({"target": 1.7}, "target: expected a class, or one for each of 1 images; got float64"),
        ({"target": [0, 1]}, r"target: expected a class, .* got int64 \(2,\)"),
    ],
)
def test_errors_name_the_argument(change, message):
    given = {"maps": np.zeros((1, 4, 4)), "steps": [0, 16]}
    with pytest.raises(ValueError, match=message):
        perturb(*weighing(np.ones((4, 4))), np.ones((1, 4, 4, 3)), **{**given, **change})


@pytest.mark.parametrize(("given", "message"), [
    ({"kernel": 4}, "kernel: got 4, expected an odd number"),
    ({"sigma": 0.0}, "sigma: got 0.0, expected more than 0 pixels"),
])  # fmt: skip
def test_a_blur_has_a_width(given, message):
    with pytest.raises(ValueError, match=message):
        blurred(np.ones((1, 8, 8, 3), np.float32), **given)


def test_a_network_without_a_head_has_no_probability():
    """Of pooled features a softmax would give numbers, and wrong ones."""
    sizes = {"image_size": 4, "patch_size": 2, "width": 4, "depth": 1, "num_heads": 1}
    for model in (
        vjx.VisionTransformer(**sizes, num_classes=0),
        vjx.create_model("mae_vit_micro_patch2", image_size=4, width=8, depth=1, num_heads=1),
    ):
        for measure in (
            functools.partial(perturb, steps=[0, 4]),
            functools.partial(saco, groups=2),
        ):
            with pytest.raises(ValueError, match="model: a network without classes"):
                measure(model, {}, np.ones((1, 4, 4, 3), np.float32), np.zeros((1, 2, 2)))
