"""vjx.dense: LiFT applied again and again, its loss, and what a training step moves."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.outputs import assert_close, assert_same
from vit_jax_xfer.models.lifting.lift import LiFT, double


@pytest.fixture(params=["c48_p8", "c48_p16"])
def authors(request, golden_case):
    case = golden_case(f"lift/{request.param}")
    return case, *vjx.load_pretrained(case.state, "lift", patch_size=case.meta["patch"])


def pyramid(case):
    return tuple(case.arrays[f"train_f{n}"] for n in (1, 2, 4))


def test_twice(authors):
    case, model, variables = authors
    arrays = case.arrays
    found = vjx.dense.lift(model, variables, arrays["image"], arrays["features"], steps=2)
    assert_close(found, arrays["lift2"])
    once = vjx.dense.lift(model, variables, arrays["image"], arrays["features"], steps=1)
    assert_close(once, arrays["lift1"])


@pytest.mark.parametrize("kind", ["cosine", "l1", "l2"])
def test_the_authors_losses(authors, kind):
    case, model, variables = authors
    image = case.arrays["train_image"]
    found = vjx.dense.lift_loss(model, variables, image, pyramid(case), kind=kind)
    assert found.shape == ()
    assert_close(found, case.arrays[f"loss_{kind}"])


def test_a_training_step_moves_statistics_twice_as_pytorch_does(authors):
    case, model, variables = authors
    full = case.arrays["train_image"]
    args = model, variables, full, pyramid(case)
    loss, updates = vjx.dense.lift_loss_and_stats(*args)
    np.testing.assert_array_equal(loss, vjx.dense.lift_loss(*args))
    assert updates.keys() == {"batch_stats"}
    conv = variables["params"]["image_1"]["conv"]
    mean, var = (
        np.asarray(variables["batch_stats"]["image_1"]["norm"][k]) for k in ("mean", "var")
    )
    for image in (full[:, ::2, ::2], full[:, ::4, ::4]):
        seen = jax.lax.conv_general_dilated(
            image, conv["kernel"], (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        seen = np.asarray(seen + conv["bias"], np.float64).reshape(-1, 32)
        mean = 0.9 * mean + 0.1 * seen.mean(0)
        var = 0.9 * var + 0.1 * seen.var(0, ddof=1)
    found = updates["batch_stats"]["image_1"]["norm"]
    np.testing.assert_allclose(found["mean"], mean, atol=1e-5)
    np.testing.assert_allclose(found["var"], var, rtol=1e-5)
    # The later norms' too: calls one after the other give the same.
    stats = {"batch_stats": variables["batch_stats"]}
    for step, level in ((2, 1), (4, 2)):
        picked = full[:, ::step, ::step]
        _, stats = model.apply(
            {**variables, **stats}, picked, pyramid(case)[level], True, mutable=["batch_stats"]
        )
    assert_same(updates, stats)


def test_gradients_reach_all_of_lift_and_no_feature(authors):
    case, model, variables = authors

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradients(params, features):
        given = {**variables, "params": params}
        return vjx.dense.lift_loss(model, given, case.arrays["train_image"], features)

    params, features = gradients(variables["params"], pyramid(case))
    assert all(jnp.abs(x).max() > 0 for x in jax.tree.leaves(params))
    assert not any(x.any() for x in features)


def test_a_loss_without_training_moves_nothing(authors):
    case, model, variables = authors
    args = model, variables, case.arrays["train_image"], pyramid(case)
    loss, updates = vjx.dense.lift_loss_and_stats(*args, train=False)
    assert_same(updates, {"batch_stats": variables["batch_stats"]})
    half = model.apply(variables, args[2][:, ::2, ::2], args[3][1])
    quarter = model.apply(variables, args[2][:, ::4, ::4], args[3][2])
    similarity = [
        (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        for a, b in ((np.asarray(half), args[3][0]), (np.asarray(quarter), args[3][1]))
    ]
    np.testing.assert_allclose(loss, sum((1 - s).mean() for s in similarity), rtol=1e-5)


def test_features_of_zeros_are_no_nan(authors):
    case, model, variables = authors
    zeros = tuple(map(np.zeros_like, pyramid(case)))
    loss = vjx.dense.lift_loss(model, variables, case.arrays["train_image"], zeros)
    assert float(loss) == 2.0


def test_shrunken_images():
    image = np.random.default_rng(0).standard_normal((2, 16, 22, 3)).astype(np.float32)
    for factor in (2, 4):
        picked = vjx.dense.shrink_images(image, factor)
        np.testing.assert_array_equal(picked, image[:, ::factor, ::factor])
        assert vjx.dense.shrink_images(image, factor, "resize").shape == picked.shape
    torch = pytest.importorskip("torch", reason="needs torch to interpolate")
    for factor in (2, 4):
        size = (16 // factor, -(-22 // factor))
        wanted = torch.nn.functional.interpolate(
            torch.tensor(image).permute(0, 3, 1, 2), size, mode="bilinear", antialias=True
        )
        found = vjx.dense.shrink_images(image, factor, "resize")
        assert_close(found, wanted.permute(0, 2, 3, 1))


def test_the_loss_sees_images_as_they_were_shrunk(authors):
    case, model, variables = authors
    args = model, variables, case.arrays["train_image"], pyramid(case)
    losses = [float(vjx.dense.lift_loss(*args, shrink=how)) for how in ("pick", "resize")]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(("size", "seen"), [((52, 61), (104, 111)), ((56, 48), (111, 96))])
def test_images_beyond_whole_patches_are_lifted_again(size, seen):
    model = LiFT(8, 16)
    grid = (size[0] // 16, size[1] // 16)
    images = jax.random.normal(jax.random.key(0), (1, *size, 3))
    features = jax.random.normal(jax.random.key(1), (1, *grid, 8))
    shapes = jax.eval_shape(model.init, jax.random.key(2), images, features)
    variables = jax.tree.map(lambda x: jnp.full(x.shape, 0.1), shapes)
    found = vjx.dense.lift(model, variables, images, features, steps=2)
    once = model.apply(variables, images, features)
    larger = double(images)[:, : seen[0], : seen[1]]
    np.testing.assert_array_equal(found, model.apply(variables, larger, once))
    assert found.shape == (1, 4 * grid[0], 4 * grid[1], 8)


def test_inputs_of_lift_that_do_not_fit(authors):
    case, model, variables = authors
    full, half, quarter = pyramid(case)
    image = case.arrays["train_image"]
    for function, given, fields, message in (
        ("lift_loss", (full, half, quarter), {"kind": "l3"}, "kind: 'l3' is none of cosine, l1"),
        ("lift_loss", (full, half, quarter), {"shrink": "crop"}, "shrink: 'crop' is none of pick"),
        ("lift_loss", (full, half), {}, r"features: expected \(full, half, quarter\).* got shapes"),
        ("lift_loss", (half, half, quarter), {}, "features: expected grids .* twice the next, got"),
        ("lift_loss", (half, quarter, quarter[:, ::2, ::2]), {}, "features: got shape"),
        ("lift", full, {"steps": 0}, "steps: got 0, expected a whole number from 1 on"),
        ("lift", half, {"steps": 1}, "features: got shape .* expected"),
    ):
        with pytest.raises(ValueError, match=message):
            getattr(vjx.dense, function)(model, variables, image, given, **fields)


def test_the_namespace():
    assert {"descriptors", "lift", "lift_loss", "propagate_labels", "tokencut", "pck"} <= set(
        vjx.dense.__all__
    )
    with pytest.raises(AttributeError, match="no attribute 'lfit'"):
        _ = vjx.dense.lfit
