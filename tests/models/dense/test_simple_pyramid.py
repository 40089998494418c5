"""ViTDet's pyramid against numbers of its authors' arithmetic, and its strides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.dense.simple_pyramid import SimplePyramid, pyramid_strides


def published(state):
    """detectron2's names as this module's tree: convolutions from (out, in, h, w)."""
    params = {}
    for name, array in state.items():
        level, place, kind = name.split(".")
        number = int(level.split("_")[1])
        tail = {2: 4, 3: 1, 4: 0, 5: 1}[number]  # where the convolutions to `width` begin
        place = int(place) - tail
        if place < 0:
            names = {-4: "up_1", -3: "up_norm_1", -1: "up_2"}
            module = "up_1" if number == 3 else names[place]
        else:
            module = ("lateral", "lateral_norm", "output", "output_norm")[place]
        leaf = "bias" if kind == "bias" else "kernel"
        if kind == "weight" and array.ndim == 1:
            leaf = "scale"
        if array.ndim == 4:  # a transposed one is (in, out, h, w)
            array = array.transpose((2, 3, 0, 1) if "up" in module else (2, 3, 1, 0))
        params.setdefault(f"p{number}", {}).setdefault(module, {})[leaf] = jnp.asarray(array)
    return {"params": params}


def test_the_authors_levels(golden_case):
    case = golden_case("dense/simple_pyramid/square")
    model = SimplePyramid(24)
    levels = jax.jit(model.apply)(published(case.state), jnp.asarray(case.arrays["feature"]))
    assert model.strides == (4, 8, 16, 32, 64) and len(levels) == 5
    for i, level in enumerate(levels):
        np.testing.assert_allclose(level, case.arrays[f"p{i + 2}"], atol=2e-5)


@pytest.mark.parametrize(
    ("stride", "strides", "sides"),
    [
        (8, (4, 8, 16, 32, 64), (10, 5, 2, 1, 1)),  # after LiFT
        (14, (7, 14, 28, 56, 112), (10, 5, 2, 1, 1)),
        (4, (4, 8, 16, 32, 64), (5, 2, 1, 0, 0)),
    ],
)
def test_other_strides(stride, strides, sides):
    model = SimplePyramid(4, stride)
    assert model.strides == strides == pyramid_strides(stride)
    x = jax.ShapeDtypeStruct((1, 5, 5, 8), jnp.float32)
    levels = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], x)
    assert [level.shape for level in levels] == [(1, n, n, 4) for n in sides]


def test_channels_that_can_not_be_halved_are_refused():
    x = jax.ShapeDtypeStruct((1, 2, 2, 6), jnp.float32)
    with pytest.raises(ValueError, match="width: 6 channels can't be halved 2 times"):
        jax.eval_shape(SimplePyramid(4).init, jax.random.key(0), x)
