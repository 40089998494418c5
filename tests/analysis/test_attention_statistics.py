"""Distance, entropy and mass of attention: reference values, and maps whose values are known."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.outputs import assert_close


def close(found, wanted):
    """Within 1e-5 of the array's maximum."""
    assert_close(found, wanted, tolerance=1e-5)


def test_reference_values(golden_case):
    _, arrays, _ = golden_case("explain/attention_stats")
    maps, grid = arrays["attn"], (4, 4)
    close(vjx.analysis.attention_distance(maps, grid), arrays["distance_patches"])
    close(
        vjx.analysis.attention_distance(maps, grid, renormalize=False),
        arrays["distance_unnormalised_patches"],
    )
    close(vjx.analysis.attention_entropy(maps), arrays["entropy"])
    close(vjx.analysis.attention_entropy(maps[..., :1, :]), arrays["entropy_cls"])
    mass = vjx.analysis.attention_mass(maps)
    close(mass.class_to_patches, arrays["cls_to_patch_mass"])
    close(mass.patches_to_class, arrays["patch_to_cls_mass"])


def test_an_even_look_has_the_mean_distance_and_the_most_entropy():
    grid, prefix = (2, 3), 2
    maps = jnp.full((1, 1, 1, 8, 8), 1 / 8)
    places = np.argwhere(np.ones(grid))
    mean = np.linalg.norm(places[:, None] - places, axis=-1).mean()
    close(vjx.analysis.attention_distance(maps, grid, prefix), np.full((1, 1, 1), mean))
    own = vjx.analysis.attention_distance(maps, grid, prefix, renormalize=False)
    close(own, np.full((1, 1, 1), mean * 6 / 8))
    close(vjx.analysis.attention_entropy(maps), np.full((1, 1, 1), np.log(8)))
    # All look at the second patch of the first row.
    second = jnp.zeros((1, 1, 1, 8, 8)).at[..., prefix + 1].set(1.0)
    wanted = np.linalg.norm(places - [0, 1], axis=-1).mean()
    close(vjx.analysis.attention_distance(second, grid, prefix), np.full((1, 1, 1), wanted))
    # Who looks at itself alone looks nowhere, and is sure of it.
    for found in (
        vjx.analysis.attention_distance(jnp.eye(8)[None, None, None], grid, prefix),
        vjx.analysis.attention_entropy(jnp.eye(8)[None, None, None]),
    ):
        np.testing.assert_array_equal(found, 0)


def test_mass_tells_kinds_of_tokens_apart():
    maps = np.zeros((1, 1, 1, 5, 5), np.float32)
    maps[..., 0, :] = 0.1, 0.2, 0.3, 0.25, 0.15  # class, register, three patches
    maps[..., 2:, :] = 0.5, 0.3, 0.2, 0, 0
    mass = vjx.analysis.attention_mass(maps, num_prefix_tokens=2)
    wanted = {"class_to_patches": 0.7, "class_to_class": 0.1, "class_to_others": 0.2}
    wanted |= {"patches_to_patches": 0.2, "patches_to_class": 0.5, "patches_to_others": 0.3}
    for name, value in wanted.items():
        assert float(getattr(mass, name)[0, 0, 0]) == pytest.approx(value), name
    without = vjx.analysis.attention_mass(maps, num_prefix_tokens=1, class_token=False)
    assert without.class_to_patches is without.patches_to_class is None
    assert float(without.patches_to_others[0, 0, 0]) == pytest.approx(0.375)


def test_errors_name_the_argument():
    maps = jnp.full((1, 1, 1, 5, 5), 0.2)
    with pytest.raises(ValueError, match=r"grid: 2×3 patches and 1 prefix tokens are 7, but the"):
        vjx.analysis.attention_distance(maps, (2, 3))
    with pytest.raises(ValueError, match=r"attention: expected maps \(T, T\), got \(1, 5\)"):
        vjx.analysis.attention_mass(maps[..., :1, :])
    with pytest.raises(ValueError, match="num_prefix_tokens: got 5 for 5 tokens"):
        vjx.analysis.attention_mass(maps, 5)


@pytest.mark.parametrize(
    ("measure", "shape"),
    [
        (vjx.analysis.attention_entropy, (1, 1, 1, 4, 4)),
        (functools.partial(vjx.analysis.attention_distance, grid=(2, 2), num_prefix_tokens=0),
         (1, 1, 1, 4, 4)),
        (vjx.analysis.attention_mass, (1, 1, 1, 4, 4)),
        (lambda maps: vjx.analysis.head_divergence(np.full((1, 1, 4, 4), 0.25), maps),
         (1, 1, 4, 4)),
    ],
)  # fmt: skip
def test_scores_before_the_softmax_are_no_maps(measure, shape):
    even = jnp.full(shape, 0.25)
    measure(even.astype(jnp.bfloat16))
    for wrong in (2 * even, even.at[..., 0, 0].set(-0.25)):
        with pytest.raises(ValueError, match="(attention|q): .* pass maps after the softmax"):
            measure(wrong)
