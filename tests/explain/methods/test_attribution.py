"""Attributions equal the published definitions' results, and say what they are not defined for."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.explain.methods.attribution import TABLE


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


# Networks that run in other ways are explained alike.
RUNS = {"plain": {}, "scan": {"scan": True}, "remat": {"remat": "full"}}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("target", [3, 7])
def test_generic_attention(case, target, run):
    explain, arrays = case("generic_attention", **RUNS[run])
    out = explain("generic_attention", target=target)
    close(out.joint, arrays[f"R_c{target}"])
    close(out.map, arrays[f"map_c{target}"])
    assert out.target.tolist() == [target, target]


@pytest.mark.parametrize("target", [3, 7])
def test_the_attentions_gradcam(case, target):
    explain, arrays = case("generic_attention")
    close(explain("attention_gradcam", target=target).map, arrays[f"attn_gradcam_c{target}"])


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("target", [3, 7])
@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam"])
def test_class_activation(case, method, target, run):
    explain, arrays = case("gradcam_vit", **RUNS[run])
    close(explain(method, target=target).map, arrays[f"{method}_c{target}"])


@pytest.mark.parametrize("run", RUNS)
def test_class_activation_of_the_first_block(case, run):
    explain, arrays = case("gradcam_vit", **RUNS[run])
    close(explain("gradcam", target=3, layer=0).map, arrays["gradcam_block0_c3"])


def test_class_activation_of_a_rematerialised_block(case):
    maps = []
    for fields in ({}, {"remat": "full"}):
        explain, _ = case("gradcam_vit", **fields)
        maps.append(explain("gradcam", target=3, layer="blocks_1").map)
    close(maps[1], np.asarray(maps[0]))


class Convolutions(nn.Module):
    """The convolutional network of the reference, whose batch norms are in its kernels."""

    @nn.compact
    def __call__(self, x):
        for width, stride, name in ((16, 1, "first"), (24, 2, "mid"), (32, 2, "last")):
            x = Features(width, stride, name=name)(x)
        return nn.Dense(10, name="head")(x.mean(axis=(1, 2)))


class Features(nn.Module):
    """Convolution and ReLU."""

    width: int
    stride: int

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(self.width, (3, 3), self.stride, padding=1, name="conv")(x))


def folded(state):
    """The reference's weights, batch norms folded into the convolutions before them."""
    params = {}
    for i, name in ((0, "first"), (3, "mid"), (6, "last")):
        norm = {k: state[f"features.{i + 1}.{k}"] for k in ("weight", "bias")}
        mean, var = (state[f"features.{i + 1}.running_{k}"] for k in ("mean", "var"))
        factor = norm["weight"] / np.sqrt(var + 1e-5)
        kernel = state[f"features.{i}.weight"].transpose(2, 3, 1, 0) * factor
        params[name] = {"conv": {"kernel": kernel, "bias": norm["bias"] - mean * factor}}
    params["head"] = {"kernel": state["head.weight"].T, "bias": state["head.bias"]}
    return {"params": params}


@pytest.mark.parametrize("target", [3, 7])
@pytest.mark.parametrize("layer", ["mid", "last"])
def test_class_activation_of_any_module(golden_case, layer, target):
    _, arrays, state = golden_case("explain/gradcam_conv")
    names = {"gradcam_plus_plus": "gradcampp"}
    for method in ("gradcam", "hirescam", "layercam", "gradcam_plus_plus", "xgradcam"):
        out = vjx.explain.attribute(
            Convolutions(), folded(state), arrays["image"], method, target=target, layer=layer
        )
        close(out.map, arrays[f"{names.get(method, method)}_{layer}_c{target}"])


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("target", [3, 7])
def test_attn_lrp(case, target, run):
    explain, arrays = case("attn_lrp", **RUNS[run])
    out = explain("attn_lrp", target=target)
    close(out.pixels, arrays[f"pixel_attnlrp_c{target}"])
    close(out.tokens, arrays[f"token_attnlrp_c{target}"])
    np.testing.assert_array_equal(out.map, out.tokens[:, 1:].reshape(2, 4, 4))


@pytest.mark.parametrize("gamma", [None, 0.05])
@pytest.mark.parametrize("target", [3, 7])
def test_cp_lrp(case, target, gamma):
    explain, arrays = case("attn_lrp")
    out = explain("cp_lrp", target=target, gamma=gamma)
    name = "cplrp" if gamma is None else f"cplrp_gamma{gamma}"
    close(out.pixels, arrays[f"pixel_{name}_c{target}"])
    close(out.tokens, arrays[f"token_{name}_c{target}"])


@pytest.mark.parametrize("target", [3, 7])
def test_transformer_attribution(case, target):
    # Within 3·10⁻⁵ in 32 bits; the reference is in 64 (facts, 3.1).
    explain, arrays = case("chefer")
    method = "transformer_attribution"
    close(explain(method, target=target).map, arrays[f"map_c{target}"])
    close(explain(method, target=target, start_layer=1).map, arrays[f"map_start1_c{target}"])
    simple = explain(method, target=target, rules="simple").map
    close(simple, arrays[f"map_simple_rules_c{target}"])
    close(explain("partial_lrp", target=target).map, arrays[f"partial_lrp_c{target}"])


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


IMAGES = np.zeros((2, 8, 8, 3), np.float32)
TINY = {"image_size": 8, "patch_size": 4, "width": 8, "depth": 1, "num_heads": 2}


@pytest.mark.parametrize(
    ("fields", "call", "message"),
    [
        ({}, ("legard", {}), "method: 'legard' is none of .*; did you mean 'legrad'?"),
        ({}, ("rollout", {"layer": 1}), "layer: rollout has head_fusion, discard, start_layer"),
        ({}, ("generic_attention", {"layer": 1}), "layer: generic_attention has no options"),
        ({}, ("gradcam", {"layer": 1.5}), "layer: gradcam takes int | str, got 1.5"),
        ({}, ("rollout", {"discard": True}), "discard: rollout takes float, got True"),
        ({}, ("rollout", {"discard": 1.0}), "discard: expected a share from 0 up to 1"),
        ({}, ("rollout", {"head_fusion": "sum"}), "head_fusion: 'sum' is none of mean, max, min"),
        (
            {},
            ("rollout", {"start_layer": 1}),
            "start_layer: 1 is not a layer of a network of depth 1",
        ),
        ({}, ("gradcam", {"layer": "blocks_9"}), "layer: 'blocks_9' is the path of no module"),
        ({}, ("legrad", {"start_layer": -2}), "start_layer: -2 is not a layer of a network"),
        ({}, ("hirescam", {"layer": 1}), "layer: 1 is not a layer of a network of depth 1"),
        ({}, ("raw_attention", {"layer": -3}), "layer: -3 is not a layer of a network of depth 1"),
        ({"scan": True}, ("gradcam", {"layer": "blocks/norm1"}), "layer: .* in all scanned blocks"),
        ({}, ("gradcam", {"layer": "blocks_0/attention/qkv"}), "layer: .* gives more than one"),
        (
            {"qk_norm": True},
            ("gradcam", {"layer": "blocks_0/attention/q_norm"}),
            r"layer: gives \(2, 5, 2, 4\), expected features \(B, h, w, C\)",
        ),
        (
            {"class_token": False, "pool": "avg", "window_size": 1, "window_blocks": (0,)},
            ("gradcam", {"layer": "blocks_0/attention"}),
            r"layer: gives \(8, 1, 8\), expected features \(B, h, w, C\)",
        ),
        ({}, ("xgradcam", {}), "xgradcam: divides by the channels' sums"),
        (
            {"class_token": False, "pool": "avg", "conv_blocks": (0,)},
            ("partial_lrp", {}),
            "partial_lrp: has no rule for conv_blocks; use attn_lrp",
        ),
        (
            {"class_token": False, "pool": "avg", "relative_bias": "decomposed"},
            ("transformer_attribution", {}),
            "transformer_attribution: has no rule for relative_bias='decomposed'; use attn_lrp",
        ),
        (
            {"class_token": False, "pool": "avg", "conv_blocks": (0,)},
            ("cp_lrp", {"gamma": 0.1}),
            "gamma: has no rule for convolutions",
        ),
        ({}, ("gradcam", {"target": 10}), r"target: this network's classes are 0 … 9, got 10"),
        ({}, ("gradcam", {"target": [1, 2, 3]}), "target: expected a class, or one for each of 2"),
        ({"num_classes": 0}, ("gradcam", {}), "gradcam: explains a class, and this network has no"),
    ],
)
def test_what_is_not_defined_is_said_in_a_line(fields, call, message):
    method, options = call
    model = vjx.VisionTransformer(**{**TINY, "num_classes": 10, **fields})

    def explain(variables):
        return vjx.explain.attribute(model, variables, IMAGES, method, **options)

    with pytest.raises(ValueError, match=message) as error:
        jax.eval_shape(explain, jax.eval_shape(model.init, jax.random.key(0), IMAGES))
    assert "\n" not in str(error.value)


def test_images_must_be_prepared():
    model = vjx.VisionTransformer(**TINY)
    with pytest.raises(ValueError, match=r"images: expected .* got uint8 \(2, 8, 8, 3\)"):
        vjx.explain.attribute(model, {}, IMAGES.astype(np.uint8), "rollout")


def test_methods_are_sorted_and_described():
    assert list(vjx.explain.METHODS) == sorted(TABLE)
    assert all(method.function.__doc__ for method in TABLE.values())


def test_baselines():
    image = np.zeros((1, 8, 8, 3), np.float32)
    image[:, :, 5:] = 1.0
    model, variables = vjx.VisionTransformer(**TINY, num_classes=2), {"params": {}}
    edges = vjx.explain.attribute(model, variables, image, "edges")
    # Sobel's filter gives 4 on both sides of a step of 1; both columns are in the right patches.
    expected = np.zeros((8, 8))
    expected[:, 4:6] = 4.0
    np.testing.assert_allclose(edges.pixels[0], expected)
    np.testing.assert_allclose(edges.map[0], [[0, 32], [0, 32]])
    draws = [
        vjx.explain.attribute(model, variables, image, "random", seed=seed).map
        for seed in (0, 0, 1)
    ]
    assert draws[0].shape == (1, 2, 2)
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.allclose(draws[0], draws[2])
