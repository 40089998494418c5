"""ROIAlign: the compiled kernel's figures, levels, and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.detection import roi_align, roi_align_levels, roi_levels


@pytest.mark.parametrize("name", ["s2_7", "legacy_unaligned_7"])
def test_regions_are_the_compiled_kernels_also_across_borders(golden_case, name):
    case = golden_case(f"dense/roi_align/{name}")
    meta, want = case.meta, case.arrays
    found = roi_align(
        want["feature"].astype(np.float32),
        want["boxes"],
        meta["output"],
        meta["scale"],
        meta["sampling_ratio"],
        meta["aligned"],
    )
    np.testing.assert_allclose(found, want["out"], rtol=1e-5, atol=1e-5)


def test_a_box_belongs_to_the_level_of_its_size(golden_case):
    want = golden_case("dense/roi_align/levels").arrays
    np.testing.assert_array_equal(roi_levels(want["boxes"]), want["level"])
    sides = np.array([111.99, 112, 223.99, 224, 447.9, 448, 5000])
    edges = np.stack([0 * sides, 0 * sides, sides, sides], axis=-1)
    np.testing.assert_array_equal(roi_levels(edges), [0, 1, 1, 2, 2, 3, 3])


def test_regions_of_several_levels_are_those_of_their_own():
    rng = np.random.default_rng(0)
    strides = (4, 8)
    levels = [rng.standard_normal((n, n + 1, 3)).astype(np.float32) for n in (40, 20)]
    boxes = np.array([[3, 5, 60, 40], [10, 1, 150, 140.0]])
    found = roi_align_levels(levels, boxes, 3, strides)
    for i, (level, stride) in enumerate(zip(levels, strides, strict=True)):
        alone = roi_align(level, boxes[i : i + 1], 3, 1 / stride)
        np.testing.assert_allclose(found[i : i + 1], alone, rtol=1e-5, atol=1e-6)


def test_only_features_get_a_gradient_and_a_bad_box_reads_zeros():
    features = jnp.ones((6, 6, 2), jnp.bfloat16)
    boxes = np.array([[4, 4, 20, 20], [np.nan, 0, 8, 8]], np.float32)
    found = roi_align(features, boxes, 2, 0.25)
    assert found.dtype == jnp.bfloat16
    np.testing.assert_array_equal(found[0].astype(np.float32), 1.0)
    np.testing.assert_array_equal(found[1].astype(np.float32), 0.0)

    def total(features, boxes):
        return roi_align(features, boxes, 2, 0.25).sum()

    of_features, of_boxes = jax.grad(total, (0, 1))(features.astype(jnp.float32), boxes)
    assert float(of_features.sum()) == pytest.approx(2 * 2 * 2)
    assert not np.asarray(of_boxes).any()
    with pytest.raises(ValueError, match="sampling_ratio: got 0, expected a whole number from 1"):
        roi_align(features, boxes, 2, 0.25, sampling_ratio=0)
