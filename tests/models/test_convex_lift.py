"""ConvexLiFT: what comes out are averages of what goes in; sizes, training, precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.outputs import assert_close, assert_same
from vit_jax_xfer.models.lifting.convex_lift import ConvexLiFT
from vit_jax_xfer.models.lifting.lift import double


def draw(patch=8, size=(33, 24), width=6, **fields):
    """A small network far from its first values, with images and features for it."""
    model = ConvexLiFT(width, patch, **{"key_width": 8, "hidden": 8, **fields})
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, *size, 3)).astype(np.float32)
    grid = (size[0] // patch, size[1] // patch)
    features = rng.standard_normal((2, *grid, width)).astype(np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images, features)
    variables = jax.tree.map(
        lambda x: jnp.asarray(0.2 + 0.5 * rng.standard_normal(x.shape), jnp.float32), shapes
    )
    variables["batch_stats"] = jax.tree.map(jnp.abs, variables["batch_stats"])
    return model, variables, images, features


def around(features, radius):
    """The least and the largest of each channel among a parent's neighbours, for its children."""
    padding = ((0, 0), (radius, radius), (radius, radius), (0, 0))
    side = 2 * radius + 1
    limits = []
    for value, best in ((np.inf, np.min), (-np.inf, np.max)):
        padded = np.pad(features, padding, constant_values=value)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (1, 2))
        limits.append(best(windows, (-1, -2)).repeat(2, 1).repeat(2, 2))
    return limits


@pytest.mark.parametrize(
    ("patch", "size", "radius"), [(8, (33, 24), 2), (16, (48, 64), 1), (14, (29, 43), 3)]
)
def test_outputs_stay_among_their_neighbours(patch, size, radius):
    model, variables, images, features = draw(patch, size, radius=radius)
    found = np.asarray(jax.jit(model.apply)(variables, images, features))
    grid = features.shape[1:3]
    assert found.shape == (2, 2 * grid[0], 2 * grid[1], 6)
    least, largest = around(features, radius)
    assert (found >= least - 1e-5).all() and (found <= largest + 1e-5).all()
    # The weights are not those of distance alone.
    assert np.abs(found - jax.jit(model.apply)(variables, -images, features)).max() > 0.05


def test_a_constant_map_stays_constant_however_often_it_is_doubled():
    model, variables, images, features = draw()
    constant = np.broadcast_to(features[:, :1, :1], features.shape)
    lift = jax.jit(functools.partial(vjx.dense.lift, model, steps=2))
    found = lift(variables, images, constant)
    wanted = np.broadcast_to(constant[:, :1, :1], (2, 16, 12, 6))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_doubled_again_it_stays_among_the_first_features():
    model, variables, images, features = draw()
    lift = jax.jit(functools.partial(vjx.dense.lift, model, steps=2))
    found = np.asarray(lift(variables, images, features))
    assert found.shape == (2, 16, 12, 6)
    assert (found >= features.min((1, 2), keepdims=True) - 1e-5).all()
    assert (found <= features.max((1, 2), keepdims=True) + 1e-5).all()


def test_a_fresh_network_is_nearly_bilinear():
    model, _, images, features = draw(size=(64, 64))
    fresh = jax.jit(model.init)(jax.random.key(0), images, features)
    apply = jax.jit(model.apply)
    found, bilinear = apply(fresh, images, features), double(features)
    nearest = features.repeat(2, 1).repeat(2, 2)
    assert jnp.abs(found - bilinear).mean() < 0.2 * jnp.abs(found - nearest).mean()
    # And is the same for every image.
    np.testing.assert_array_equal(found, apply(fresh, -images, features))
    # A map that rises evenly, away from the border.
    ramp = np.broadcast_to(np.arange(8.0, dtype=np.float32)[:, None, None], features.shape)
    rising = np.asarray(apply(fresh, images, ramp))[0, 4:-4, 0, 0]
    np.testing.assert_allclose(rising, np.arange(4, 12) / 2 - 0.25, atol=0.06)


def test_other_maps_are_averaged_by_the_same_weights():
    """A linear classifier before and after doubling gives the same; its softmax stays one."""
    model, variables, images, features = draw()
    kernel = np.random.default_rng(1).standard_normal((6, 5)).astype(np.float32)
    apply = jax.jit(model.apply)
    found = apply(variables, images, features, values=features @ kernel)
    assert_close(found, apply(variables, images, features) @ kernel)
    shares = apply(variables, images, features, values=jax.nn.softmax(features @ kernel))
    assert_close(shares.sum(-1), np.ones(shares.shape[:3]))
    masks = (features > 0).astype(np.uint8)  # whose averages are no whole numbers
    averaged = apply(variables, images, features, values=masks)
    assert_same(averaged, apply(variables, images, features, values=masks.astype(np.float32)))
    for wrong in (features[:1], features[:, :-1], features[..., 0]):
        with pytest.raises(ValueError, match=r"values: got shape .*, expected \(2, 4, 3, 'C'\)"):
            model.apply(variables, images, features, values=wrong)


def test_images_of_a_batch_do_not_mix():
    model, variables, images, features = draw()
    found = model.apply(variables, images, features)
    turned = model.apply(variables, images[::-1], features[::-1])
    np.testing.assert_allclose(found, turned[::-1], atol=1e-5)
    alone = model.apply(variables, images[:1], features[:1])
    np.testing.assert_allclose(found[:1], alone, atol=1e-5)


def test_weights_do_not_hang_on_how_large_features_are():
    model, variables, images, features = draw()
    found = model.apply(variables, images, features)
    larger = model.apply(variables, images, 100 * features)
    np.testing.assert_allclose(larger / 100, found, atol=1e-4)


def test_gradients_are_those_of_finite_differences():
    model, variables, images, features = draw(size=(16, 16), radius=1)
    model = model.clone(dtype=jnp.float64)
    with jax.enable_x64(True):
        # ReLUs and maxima have corners; a step this small meets none of them here.
        step = 1e-7
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), variables["params"])
        stats = variables["batch_stats"]
        inputs = jnp.asarray(images, jnp.float64), jnp.asarray(features, jnp.float64)

        @jax.jit
        def loss(params, features):
            given = {"params": params, "batch_stats": stats}
            out, _ = model.apply(given, inputs[0], features, True, mutable=["batch_stats"])
            return jnp.sin(3 * out).sum()

        gradients = jax.jit(jax.grad(loss, (0, 1)))(params, inputs[1])
        rng = np.random.default_rng(1)
        ways = jax.tree.map(lambda x: rng.standard_normal(x.shape), (params, inputs[1]))
        here = params, inputs[1]
        ends = []
        for sign in (step, -step):
            ends.append(loss(*jax.tree.map(lambda x, way, by=sign: x + by * way, here, ways)))
        along = jax.tree.map(lambda x, way: (x * way).sum(), gradients, ways)
        found = sum(jax.tree.leaves(along))
        np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-4)


def test_gradients_reach_every_parameter():
    model, variables, images, features = draw()

    @jax.jit
    @jax.grad
    def gradients(params):
        given = {**variables, "params": params}
        out, _ = model.apply(given, images, features, True, mutable=["batch_stats"])
        return (out**2).sum()

    flat = jax.tree_util.tree_leaves_with_path(gradients(variables["params"]))
    still = [jax.tree_util.keystr(path) for path, x in flat if not jnp.abs(x).max() > 1e-6]
    # Batch norm takes a bias before it out.
    assert all("image_" in name and "'bias'" in name for name in still), still
    assert len(flat) > 20


def test_training_moves_statistics_and_use_does_not():
    model, variables, images, features = draw()
    _, updates = model.apply(variables, images, features, True, mutable=["batch_stats"])
    assert updates.keys() == {"batch_stats"}
    before, after = variables["batch_stats"], updates["batch_stats"]
    assert set(after) == {"image_1", "image_2", "image_3", "guide"}
    moved = jax.tree.map(lambda x, y: bool(jnp.abs(x - y).max() > 1e-4), before, after)
    assert all(jax.tree.leaves(moved))
    _, same = model.apply(variables, images, features, mutable=["batch_stats"])
    assert_same(same, {"batch_stats": before})


def test_half_precision_activations():
    model, variables, *inputs = draw(14, (28, 42))
    half = model.clone(dtype=jnp.bfloat16)
    found, updates = half.apply(variables, *inputs, True, mutable=["batch_stats"])
    wanted = model.apply(variables, *inputs, True, mutable=["batch_stats"])[0]
    assert found.dtype == jnp.bfloat16
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(updates))
    assert_close(found.astype(jnp.float32), wanted, "bfloat16", 0.1)


def test_it_is_small():
    model = vjx.create_model("convex_lift_patch16")
    assert isinstance(model, ConvexLiFT)
    shapes = jax.eval_shape(model.init, jax.random.key(0), *model.example_inputs())
    assert sum(x.size for x in jax.tree.leaves(shapes["params"])) == 112_420


@pytest.mark.parametrize("patch", [1, 3, 4, 14])
def test_every_size_from_one_patch_on(patch):
    model = ConvexLiFT(8, patch)
    for extra in range(0, 2 * patch + 1, 1 + patch // 3):
        size = (patch + extra, 2 * patch)
        grid = (size[0] // patch, 2)
        inputs = [jax.ShapeDtypeStruct((1, *s), jnp.float32) for s in ((*size, 3), (*grid, 8))]
        variables = jax.eval_shape(functools.partial(model.init, jax.random.key(0)), *inputs)
        out = jax.eval_shape(model.apply, variables, *inputs)
        assert out.shape == (1, 2 * grid[0], 4, 8)


@pytest.mark.parametrize(
    ("fields", "images", "features", "message"),
    [
        ({}, (1, 15, 64, 3), (1, 1, 4, 8), "images: 15×64 pixels are smaller than one 16-pixel"),
        ({}, (1, 64, 64, 3), (1, 8, 4, 8), r"features: got .*8, 4, 8\), expected \(1, 4, 4, 8\)"),
        ({}, (2, 64, 64, 3), (1, 4, 4, 8), r"features: .*: 2 images of 64×64 pixels in 16-pixel"),
        ({"radius": 0}, (1, 64, 64, 3), (1, 4, 4, 8), "radius: got 0, expected a whole number"),
        ({"key_width": 1.5}, (1, 64, 64, 3), (1, 4, 4, 8), "key_width: got 1.5, expected a whole"),
    ],
)
def test_what_does_not_fit_is_named(fields, images, features, message):
    model = ConvexLiFT(**{"width": 8, "patch_size": 16, **fields})
    with pytest.raises(ValueError, match=message) as caught:
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(images), jnp.zeros(features))
    assert "\n" not in str(caught.value)
