"""FilterViT's maps for heads that look at places: at any image size, K a share of the pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx


def test_the_last_map_is_the_result_and_what_is_kept_is_a_share():
    model = vjx.create_model("filter_vit_micro", num_classes=0)
    assert (model.map_strides, model.map_widths) == ((4, 8), (64, 64))
    images = np.random.default_rng(0).normal(size=(2, 41, 48, 3)).astype(np.float32)

    @jax.jit
    def run(key, images):
        variables = model.init(key, images)
        out, found = model.apply(variables, images, mutable=["filter"], method="forward")
        maps = model.apply(variables, images, method="feature_maps")
        first = model.apply(variables, images, layers=(1,), method="feature_maps")
        return out.features, found["filter"], maps, first

    features, chosen, maps, first = run(jax.random.key(0), images)
    assert [x.shape for x in maps] == [(2, 10, 11, 64), (2, 5, 6, 64)]
    assert first[0].shape == (2, 19, 22, 32)
    np.testing.assert_array_equal(maps[-1], features)
    assert chosen["stage_1"]["kept"].shape == (2, round(0.25 * 19 * 22))
    assert chosen["stage_1"]["kept"].max() < 19 * 22


@pytest.mark.parametrize(
    "name", ["filter_vit_xxs", "filter_vit_xs", "filter_vit_s", "filter_vit_s2"]
)
@pytest.mark.parametrize("size", [320, 640])
def test_published_networks_detect_at_their_sizes(name, size):
    model = vjx.create_model(name, num_classes=0)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    maps, found = jax.eval_shape(
        lambda x: model.init_with_output(
            jax.random.key(0), x, method="feature_maps", mutable=["params", "batch_stats", "filter"]
        ),
        images,
    )
    assert model.map_strides == (4, 8, 16, 32)
    sides = [x.shape[1] for x in maps]
    assert sides == [size // 4 - 1, size // 8, size // 16, size // 32]
    assert [x.shape[-1] for x in maps] == list(model.map_widths)


def test_a_map_of_a_fixed_side_has_no_stride():
    with pytest.raises(ValueError, match="stem_grid: maps of a fixed side have no stride"):
        vjx.create_model("filter_vit_micro", stem_grid=7).map_strides  # noqa: B018
