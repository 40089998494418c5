"""Attributions equal the published definitions' results, and say what they are not defined for."""

import numpy as np
import pytest

import vit_jax_xfer as vjx


def close(ours, reference, tolerance=1e-4):
    """Within a share of the reference's largest value."""
    difference = np.abs(np.asarray(ours, np.float64) - reference).max()
    assert difference <= tolerance * np.abs(reference).max()


@pytest.fixture
def case(golden_case):
    """name → what explains its image, and its arrays."""

    def opened(name, **fields):
        _, arrays, state = golden_case(f"explain/{name}")
        model, variables = vjx.load_pretrained(state, num_heads=3, **fields)

        def explain(method, **options):
            return vjx.explain.attribute(model, variables, arrays["image"], method, **options)

        return explain, arrays

    return opened


@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("discard", [0.0, 0.5, 0.9])
def test_rollout(case, fusion, discard):
    explain, arrays = case("rollout")
    out = explain("rollout", head_fusion=fusion, discard=discard)
    close(out.joint, arrays[f"joint_{fusion}_d{discard:g}"])
    close(out.map, arrays[f"map_{fusion}_d{discard:g}"])


def test_rollout_from_the_second_layer(case):
    explain, arrays = case("rollout")
    close(explain("rollout", start_layer=1).joint, arrays["joint_mean_start1"])


@pytest.mark.parametrize("discard", [0.0, 0.9])
@pytest.mark.parametrize("target", [3, 7])
def test_gradient_rollout(case, target, discard):
    explain, arrays = case("grad_rollout")
    out = explain("gradient_rollout", target=target, discard=discard)
    close(out.joint, arrays[f"joint_c{target}_d{discard:g}"])
    close(out.map, arrays[f"map_c{target}_d{discard:g}"])


@pytest.mark.parametrize(
    "fields", [{}, {"scan": True}, {"remat": "full", "attention": "blockwise"}]
)
@pytest.mark.parametrize("target", [3, 7])
def test_generic_attention_and_the_attentions_gradcam(case, target, fields):
    explain, arrays = case("generic_attention", **fields)
    out = explain("generic_attention", target=target)
    close(out.joint, arrays[f"R_c{target}"])
    close(out.map, arrays[f"map_c{target}"])
    close(explain("attention_gradcam", target=target).map, arrays[f"attn_gradcam_c{target}"])


@pytest.mark.parametrize("fields", [{}, {"scan": True}, {"remat": "full"}])
@pytest.mark.parametrize("target", [3, 7])
def test_class_activation(case, target, fields):
    explain, arrays = case("gradcam_vit", **fields)
    for method in ("gradcam", "hirescam", "layercam"):
        close(explain(method, target=target).map, arrays[f"{method}_c{target}"])
    close(explain("gradcam", target=target, layer=0).map, arrays[f"gradcam_block0_c{target}"])


def test_raw_attention(case):
    explain, arrays = case("dino_maps")
    close(explain("raw_attention").map, arrays["head_mean"])
    close(explain("raw_attention", head_fusion="max").map, arrays["head_max"])


def test_class_attention(golden_case):
    _, arrays, state = golden_case("explain/dino_maps")
    model, variables = vjx.load_pretrained(state, num_heads=3)
    close(vjx.explain.class_attention(model, variables, arrays["image"]), arrays["heads"])
    masks = vjx.explain.class_attention(model, variables, arrays["image"], keep_mass=0.6)
    np.testing.assert_array_equal(masks, arrays["mask"].astype(bool))
