"""Descriptors of any block, facet and stride: DINO's, PyTorch's, and by their definition."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from tests.native import IMAGES, NATIVE, draw, network
from tests.outputs import assert_close
from vit_jax_xfer.models.lifting.lift import LiFT
from vit_jax_xfer.models.mae import MaskedAutoencoder
from vit_jax_xfer.pretrained.parameter_rules import stack_blocks


@pytest.mark.parametrize("case", ["native", "large"])
def test_keys_are_dinos(golden_case, case):
    case = golden_case(f"dino/{case}")
    model, variables = vjx.load_pretrained(case.state, num_heads=3)
    found = vjx.dense.descriptors(model, variables, case.arrays["image"])
    h, w = (side // 8 for side in case.arrays["image"].shape[1:3])
    assert (found.shape, found.dtype) == ((2, h, w, 48), np.float32)
    assert_close(found.reshape(2, h * w, 48), case.arrays["key_descriptor"])


@functools.cache
def small(**fields):
    model = network(registers=1, **fields)
    return model, draw(model, 0)


@pytest.mark.parametrize("layer", [0, 1, -1, -2])
@pytest.mark.parametrize(("facet", "name"), [("key", "k"), ("query", "q"), ("value", "v")])
def test_any_facet_of_any_layer(facet, name, layer):
    model, variables = small()
    found = vjx.dense.descriptors(model, variables, IMAGES, facet, layer)
    out = vjx.extract(model, variables, IMAGES, qkv=True, layers=[layer])
    wanted = np.asarray(getattr(out, name)[0])[:, 2:].reshape(3, 4, 4, 3, 16)
    for channel in range(16):
        for head in range(3):
            np.testing.assert_allclose(
                found[..., 3 * channel + head], wanted[..., head, channel], atol=1e-5
            )


def test_normed_tokens_are_the_patch_tokens_and_layers_stand_side_by_side():
    model, variables = small()
    out = vjx.extract(model, variables, IMAGES)
    normed = functools.partial(vjx.dense.descriptors, model, variables, IMAGES, "normed")
    np.testing.assert_allclose(normed(), out.patch_tokens, atol=1e-5)
    both = normed([0, -1])
    np.testing.assert_allclose(both[..., 48:], normed(-1), atol=1e-6)
    np.testing.assert_allclose(both[..., :48], normed(0), atol=1e-6)
    for layers in ([], [0, 0], [1, -1]):
        with pytest.raises(ValueError, match="layer: got .*, expected one or more different ones"):
            normed(layers)
    with pytest.raises(ValueError, match="facet: this network has no final norm"):
        vjx.dense.descriptors(model.clone(final_norm=False), variables, IMAGES, "normed")


def test_tokens_are_the_stream_before_the_last_norm():
    model, variables = small()
    tokens = vjx.dense.descriptors(model, variables, IMAGES, "token")
    centred = np.asarray(tokens, np.float64) - tokens.mean(-1, keepdims=True)
    norm = variables["params"]["norm"]
    normed = centred / np.sqrt(tokens.var(-1, keepdims=True) + 1e-6) * norm["scale"] + norm["bias"]
    assert_close(vjx.extract(model, variables, IMAGES).patch_tokens, normed)
    first = vjx.dense.descriptors(model, variables, IMAGES, "token", layer=0)
    _, found = model.apply(variables, IMAGES, mutable=["residual"])
    np.testing.assert_allclose(
        first.reshape(3, 16, 48), found["residual"]["blocks_0"]["stream"][:, 2:], atol=1e-5
    )


@pytest.mark.parametrize("layer", [0, -1])
def test_scanned_and_compiled_and_of_an_autoencoder(layer):
    model, variables = small()
    wanted = vjx.dense.descriptors(model, variables, IMAGES, layer=layer, stride=4)
    scanned = {"params": stack_blocks(variables["params"])}
    describe = jax.jit(vjx.dense.descriptors, static_argnums=(0, 3, 4, 5))
    found = describe(model.clone(scan=True), scanned, IMAGES, "key", layer, 4)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    masked = MaskedAutoencoder(model, decoder_width=16)
    inside = {"params": {"encoder": variables["params"], "decoder": {}}}
    np.testing.assert_array_equal(
        vjx.dense.descriptors(masked, inside, IMAGES, layer=layer, stride=4), wanted
    )


@pytest.mark.parametrize("part", [*NATIVE, "avg"])
def test_every_native_part(part):
    model = network(**NATIVE.get(part, {"pool": "avg"}))
    variables = draw(model, 1)
    found = vjx.dense.descriptors(model, variables, IMAGES, layer=-1, stride=4)
    assert found.shape == (3, 7, 7, 48) and jnp.isfinite(found).all()
    out = vjx.extract(model.clone(patch_stride=4), variables, IMAGES, qkv=True)
    keys = np.swapaxes(out.k[-1][:, out.num_prefix_tokens :], 2, 3).reshape(found.shape)
    np.testing.assert_allclose(found, keys, atol=1e-5)


# --- Overlapping patches --------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("size", [(32, 32), (19, 8)])
def test_overlapping_patches_are_those_of_shifted_images(stride, size):
    model = network(position="none", class_token=False, pool="avg", patch_stride=stride)
    variables = draw(model, 2)
    images = np.random.default_rng(0).standard_normal((2, *size, 3)).astype(np.float32)
    h, w = (1 + (side - 8) // stride for side in size)
    assert model.grid_in(images.shape) == (h, w) and model.num_tokens(size + (3,)) == h * w
    found = model.apply(variables, images, method="embed").reshape(2, h, w, 48)
    plain = model.clone(patch_stride=None)
    for i, j in {(0, 0), (h - 1, w - 1), (h // 2, w // 3), (h - 1, 0)}:
        crop = images[:, i * stride : i * stride + 8, j * stride : j * stride + 8]
        wanted = plain.apply(variables, crop, method="embed")[:, 0]
        np.testing.assert_allclose(found[:, i, j], wanted, atol=1e-5)


def test_positions_of_overlapping_patches_are_pytorchs():
    torch = pytest.importorskip("torch", reason="needs torch to interpolate")
    model = network(position_resize="bicubic_offset", patch_stride=4)
    variables = draw(model, 3)
    found = model.apply(variables, (7, 5), method="positions")
    table = np.asarray(variables["params"]["pos_embed"])
    wanted = torch.nn.functional.interpolate(
        torch.tensor(table[:, 1:].reshape(1, 4, 4, 48)).permute(0, 3, 1, 2),
        scale_factor=((7 + 0.1) / 4, (5 + 0.1) / 4),
        mode="bicubic",
        align_corners=False,
        recompute_scale_factor=False,
    )
    assert_close(found[:, 1:], wanted.permute(0, 2, 3, 1).reshape(1, 35, 48))
    np.testing.assert_array_equal(found[:, :1], table[:, :1])


def test_fixed_positions_of_overlapping_patches_lie_between_those_of_patches():
    model = network(position="sincos")
    variables = draw(model, 4)
    whole = model.apply(variables, (4, 4), method="positions")[:, 1:].reshape(4, 4, 48)
    halves = model.clone(patch_stride=4).apply(variables, (7, 7), method="positions")[:, 1:]
    np.testing.assert_allclose(halves.reshape(7, 7, 48)[::2, ::2], whole, atol=1e-6)


def test_a_stride_of_the_patch_size_changes_nothing():
    model, variables = small()
    wanted = vjx.dense.descriptors(model, variables, IMAGES)
    found = vjx.dense.descriptors(model, variables, IMAGES, stride=8)
    np.testing.assert_array_equal(found, wanted)
    strided = vjx.dense.descriptors(model.clone(patch_stride=4), variables, IMAGES)
    np.testing.assert_array_equal(
        strided, vjx.dense.descriptors(model, variables, IMAGES, stride=4)
    )
    assert vjx.extract(model.clone(patch_stride=4), variables, IMAGES).patch_tokens.shape[1] == 7


# --- Log-binning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(1, 1), (2, 5), (8, 7)])
def test_log_bins_by_their_definition(grid):
    h, w = grid
    x = np.random.default_rng(0).standard_normal((2, h, w, 3)).astype(np.float32)
    means = np.zeros_like(x)
    for i in range(h):
        for j in range(w):
            means[:, i, j] = x[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2].mean((1, 2))
    found = vjx.dense.log_binned(x)
    assert found.shape == (2, h, w, 17 * 3)
    ring = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    bins = [(x, 1, a, b) for a, b in ring] + [(means, 3, a, b) for a, b in ring if (a, b) != (0, 0)]
    for i in range(h):
        for j in range(w):
            wanted = [
                source[:, min(max(i + far * a, 0), h - 1), min(max(j + far * b, 0), w - 1)]
                for source, far, a, b in bins
            ]
            np.testing.assert_allclose(found[:, i, j], np.concatenate(wanted, 1), atol=1e-5)


def test_log_bins_of_descriptors():
    model, variables = small()
    plain = vjx.dense.descriptors(model, variables, IMAGES, "value")
    found = vjx.dense.descriptors(model, variables, IMAGES, "value", log_bins=True)
    np.testing.assert_array_equal(found, vjx.dense.log_binned(plain))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"facet": "keys"}, "facet: 'keys' is none of key, query, value, token"),
        ({"layer": 2}, "layer: 2 is not a layer of a network of depth 2"),
        ({"layer": -3}, "layer: -3 is not a layer"),
        ({"stride": 3}, "stride: 3 does not divide the patch size 8"),
        ({"stride": 0}, "stride: 0 does not divide the patch size 8"),
        ({"images": IMAGES[:, :30]}, "image_size: 30×32 pixels are not a whole number of 8-pixel"),
        ({"images": IMAGES[:, :7], "stride": 4}, "7×32 pixels are smaller than one 8-pixel patch"),
        ({"images": IMAGES[0]}, r"images: expected shape \(B, H, W, 3\), got \(32, 32, 3\)"),
        ({"model": LiFT()}, "model: expected a VisionTransformer, got a LiFT"),
    ],
)
def test_descriptors_that_are_not_there(fields, message):
    model, variables = small()
    given = {"model": model, "variables": variables, "images": IMAGES, **fields}
    with pytest.raises(ValueError, match=message):
        vjx.dense.descriptors(**given)


def test_fields_that_overlapping_patches_do_not_go_with():
    with pytest.raises(ValueError, match="patch_stride: 3 does not divide patch_size 8"):
        jax.eval_shape(network(patch_stride=3).init, jax.random.key(0), IMAGES)
    encoder = network(pool="none", num_classes=0, patch_stride=4)
    with pytest.raises(ValueError, match="patch_stride: 4 makes patches overlap"):
        jax.eval_shape(MaskedAutoencoder(encoder).init, jax.random.key(0), IMAGES, np.ones((3, 16)))
