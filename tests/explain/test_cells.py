"""Where cells lie: the derivative of a network's maps by its image says so too."""

import dataclasses

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.explain.cells import convolve, pixels, pool, stage_cells
from vit_jax_xfer.models.filter.filter_blocks import Stage
from vit_jax_xfer.models.filter.network import FilterViT

FILTER = Stage("filter", 4, 2, keep=4)
HALVING = dataclasses.replace(FILTER, stride=2)
# A network on whose last stage's cells to look, and an image size.
CASES = {
    "stem": ({"stages": (FILTER,)}, (29, 36)),
    "stem_stride_1": ({"stages": (FILTER,), "stem_stride": 1}, (17, 24)),
    "strides": ({"stages": (HALVING, FILTER, HALVING, FILTER)}, (53, 64)),
    "strides_1": ({"stages": (HALVING, HALVING, FILTER), "stem_stride": 1}, (31, 34)),
    "pooled_down": ({"stages": (FILTER,), "stem_grid": 9}, (29, 46)),
    "pooled_and_halved": ({"stages": (HALVING, FILTER), "stem_grid": 11}, (40, 45)),
    "pooled_up": ({"stages": (HALVING, FILTER), "stem_grid": 14}, (21, 26)),
}


def response(model, size, even=False):
    """|d cell / d pixel|, (h, w, H, W), for the map that enters the last stage; without attention.

    even: kernels and image are constant, so that each pixel of a window counts the same.
    """
    bare = model.clone(stages=model.stages[:-1], attend="none")
    images = jax.random.normal(jax.random.key(0), (1, *size, 3))
    variables = bare.init(jax.random.key(1), images)
    if even:
        images = jnp.ones_like(images)
        variables = flax.traverse_util.path_aware_map(
            lambda path, x: jnp.full_like(x, 0.1) if path[-1] == "kernel" else x, variables
        )

    def cells(images):
        return bare.apply(variables, images, method="forward").features[0].sum(-1)

    @jax.jit
    def derivatives(images):
        out, back = jax.vjp(cells, images)
        ones = jnp.eye(out.size).reshape(-1, *out.shape)
        return jax.vmap(lambda one: jnp.abs(back(one)[0]).sum((0, -1)))(ones).reshape(
            *out.shape, *size
        )

    return np.asarray(derivatives(images))


@pytest.mark.parametrize("case", CASES)
def test_convolutions_see_what_was_worked_out(case):
    fields, size = CASES[case]
    model = FilterViT(stem_width=4, stem_expand=1, num_classes=0, **fields)
    cells = stage_cells(model, size)[-1]
    found = response(model, size) > 0
    assert found.shape == (*cells.shape, *size)
    for axis, sides in ((cells.rows, found.any((1, 3))), (cells.columns, found.any((0, 2)))):
        first = sides.argmax(axis=1)
        end = sides.shape[1] - sides[:, ::-1].argmax(axis=1)
        np.testing.assert_array_equal(axis.seen, np.stack([first, end], axis=1))


@pytest.mark.parametrize("case", CASES)
def test_centres_are_centres_of_mass(case):
    fields, size = CASES[case]
    model = FilterViT(stem_width=4, stem_expand=1, num_classes=0, **fields)
    cells = stage_cells(model, size)[-1]
    mass = response(model, size, even=True)
    # A convolution after uneven pooling keeps its middle cell, and weighs its neighbours evenly.
    slack = 1e-3 if case == "pooled_down" or not model.stem_grid else 0.5 * model.stem_stride
    for axis, sides in ((cells.rows, mass.sum((1, 3))), (cells.columns, mass.sum((0, 2)))):
        middles = np.arange(sides.shape[1]) + 0.5
        centres = (sides * middles).sum(axis=1) / sides.sum(axis=1)
        inner = slice(2, -2)  # where no window reaches into the padding
        assert len(axis) > 4
        np.testing.assert_allclose(axis.centres[inner], centres[inner], atol=slack)


@pytest.mark.parametrize("case", CASES)
def test_each_cell_lies_around_its_centre_and_beside_the_next(case):
    fields, size = CASES[case]
    for cells in stage_cells(FilterViT(**fields), size):
        for axis, side in ((cells.rows, size[0]), (cells.columns, size[1])):
            assert (np.diff(axis.edges) > 0).all()
            assert (axis.edges[:-1] <= axis.centres).all()
            assert (axis.centres <= axis.edges[1:]).all()
            assert (axis.centres > 0).all()
            assert (axis.centres < side).all()


def test_the_published_network():
    model = vjx.create_model("filter_vit_xs")
    first, second, third = stage_cells(model, (224, 160))
    assert [cells.stage for cells in (first, second, third)] == [1, 3, 4]
    assert first.shape == (55, 39)
    assert second.shape == third.shape == (28, 20)
    np.testing.assert_array_equal(first.rows.centres, 2.5 + 4 * np.arange(55))
    np.testing.assert_array_equal(first.rows.edges, 0.5 + 4 * np.arange(56))
    # A map that merely filled the image would have its cells 1.5 pixels further on.
    np.testing.assert_array_equal(second.rows.centres, 2.5 + 8 * np.arange(28))
    np.testing.assert_array_equal(second.columns.edges, -1.5 + 8 * np.arange(21))


@pytest.mark.parametrize("name", [x for x in vjx.list_models("*filter_vit*") if "micro" not in x])
@pytest.mark.parametrize("size", [(5, 64), (33, 97)])
def test_maps_have_the_networks_own_sizes(name, size):
    model = vjx.create_model(name, num_classes=0, keep=1)
    images = jnp.zeros((1, *size, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    shapes = jax.eval_shape(lambda v, x: vjx.extract(model, v, x).filters, variables, images)
    for cells, stage in zip(stage_cells(model, size), shapes, strict=True):
        assert stage.importance.shape == (1, *cells.shape)


def test_pooling_by_hand():
    # 7 cells to 3: windows 0–3, 2–5, 4–7.
    axis = pool(pixels(7), 3)
    np.testing.assert_array_equal(axis.centres, [1.5, 3.5, 5.5])
    np.testing.assert_allclose(axis.edges, [0, 7 / 3, 14 / 3, 7])
    np.testing.assert_array_equal(axis.seen, [[0, 3], [2, 5], [4, 7]])
    # One cell to three: all see the same, and share its place.
    axis = pool(convolve(pixels(5), 5, 2, 0), 3)
    np.testing.assert_array_equal(axis.centres, [2.5, 2.5, 2.5])
    np.testing.assert_allclose(axis.edges, 1.5 + np.arange(4) * 2 / 3)


def test_images_that_are_too_small():
    with pytest.raises(ValueError, match="image_size: 4×9 pixels"):
        stage_cells(vjx.create_model("filter_vit_xs"), (4, 9))
