"""The vision transformer: fields, precision, other image sizes, rematerialisation, refusals."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax_xfer.models.extract import extract
from vit_jax_xfer.models.transformer.positions import resize_positions, sincos_2d
from vit_jax_xfer.models.vit import VisionTransformer

FIELDS = {"patch_size": 8, "width": 48, "depth": 1, "num_heads": 3, "num_classes": 10}
MODEL = VisionTransformer(image_size=32, **FIELDS)
# The shapes of the published cases: run op by op, equal shapes are compiled once for all files.
IMAGES = np.random.default_rng(0).standard_normal((3, 32, 32, 3)).astype(np.float32)
OTHER = np.random.default_rng(1).standard_normal((3, 24, 40, 3)).astype(np.float32)


def shapes_of(model, images=IMAGES):
    return jax.eval_shape(model.init, jax.random.key(0), images)


def draw(model, images=IMAGES, seed=1):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda x: jnp.asarray(0.3 * rng.standard_normal(x.shape), x.dtype),
        shapes_of(model, images),
    )


@pytest.mark.parametrize(("antialias", "class_token"), [(False, True), (True, False)])
def test_another_size_equals_explicit_resizing(antialias, class_token):
    kind = "bicubic_antialias" if antialias else "bicubic"
    fields = {**FIELDS, "pool": "avg", "class_token": class_token, "position_resize": kind}
    model = VisionTransformer(image_size=32, **fields)
    variables = draw(model)
    params = variables["params"]
    table = resize_positions(params["pos_embed"], (4, 4), (3, 5), int(class_token), antialias)
    native = VisionTransformer(image_size=(24, 40), **fields)
    wanted = native.apply({"params": {**params, "pos_embed": table}}, OTHER)
    np.testing.assert_allclose(model.apply(variables, OTHER), wanted, rtol=1e-5, atol=1e-6)
    out = extract(model, variables, OTHER)
    assert out.patch_tokens.shape == (3, 3, 5, 48)
    assert out.num_prefix_tokens == class_token
    assert model.num_tokens(OTHER.shape) == out.tokens.shape[1] == 15 + class_token


def test_sincos_positions_are_no_parameter_and_fit_any_size():
    model = MODEL.clone(position="sincos")
    variables = draw(model)
    assert "pos_embed" not in variables["params"]
    for images, grid in ((IMAGES, (4, 4)), (OTHER, (3, 5))):
        table = {"pos_embed": jnp.asarray(sincos_2d(grid, 48))}
        learned = MODEL.clone(image_size=images.shape[1:3])
        wanted = learned.apply({"params": {**variables["params"], **table}}, images)
        np.testing.assert_allclose(model.apply(variables, images), wanted, rtol=1e-5, atol=1e-6)


def test_pooling():
    variables = draw(MODEL)
    out = extract(MODEL, variables, IMAGES)
    np.testing.assert_array_equal(out.pooled, out.tokens[:, 0])
    np.testing.assert_array_equal(out.cls, out.tokens[:, 0])
    np.testing.assert_array_equal(out.patch_tokens.reshape(3, 16, 48), out.tokens[:, 1:])
    # The mean leaves the class token out. With the norm before it, nothing comes after.
    mean = MODEL.clone(pool="avg", pool_norm=False)
    out = extract(mean, variables, IMAGES)
    np.testing.assert_allclose(out.pooled, out.tokens[:, 1:].mean(axis=1), rtol=1e-5, atol=1e-6)
    assert shapes_of(mean)["params"].keys() == variables["params"].keys()
    after = shapes_of(MODEL.clone(pool="avg"))["params"]
    assert variables["params"].keys() ^ after.keys() == {"norm", "head_norm"}
    features = MODEL.clone(num_classes=0)
    headless = {"params": {k: v for k, v in variables["params"].items() if k != "head"}}
    out = extract(features, headless, IMAGES)
    assert out.logits is None
    np.testing.assert_array_equal(features.apply(headless, IMAGES), out.pooled)
    out = extract(features.clone(pool="none"), headless, IMAGES)
    assert out.pooled is None
    assert features.clone(pool="none").apply(headless, IMAGES).shape == (3, 17, 48)


def test_pooling_of_registers_and_patches():
    """The largest numbers, and attention pooling, leave class and register tokens out."""
    model = VisionTransformer(
        *(16, 8, 8, 1, 2), num_classes=0, registers=2, class_token=False, pool="max_patches"
    )
    images = IMAGES[:, :16, :16]
    variables = draw(model, images)
    out = extract(model, variables, images)
    patches = np.asarray(out.tokens[:, 2:])
    np.testing.assert_array_equal(out.pooled, patches.max(axis=1))
    both = extract(model.clone(pool="avg_max"), variables, images).pooled
    np.testing.assert_allclose(both, (patches.max(axis=1) + patches.mean(axis=1)) / 2, rtol=1e-5)
    pooling = model.clone(pool="map_patches")
    variables = draw(pooling, images)
    out = extract(pooling, variables, images)
    wanted = pooling.bind(variables).attention_pool(out.tokens[:, 2:])
    np.testing.assert_allclose(out.pooled, wanted, rtol=1e-5)


def test_registers_with_positions():
    """Rows for the class token and the registers come first, and stay when the grid changes."""
    model = VisionTransformer(*(16, 8, 8, 1, 2), registers=2, register_position=True)
    images = IMAGES[:, :16, :16]
    params = draw(model, images)["params"]
    assert params["pos_embed"].shape == (1, 1 + 2 + 4, 8)
    rows = params["pos_embed"]
    first = jnp.concatenate([params["cls_token"], params["register_tokens"]], axis=1) + rows[:, :3]
    tokens = model.apply({"params": params}, IMAGES[:, :24, :24], method="embed")
    np.testing.assert_array_equal(tokens[0, :3], first[0])
    moved = {**params, "register_tokens": first[:, 1:], "cls_token": first[:, :1]}
    moved["pos_embed"] = rows[:, 3:]
    plain = model.clone(register_position=False, class_position=False)
    wanted = plain.apply({"params": moved}, IMAGES[:, :24, :24], method="embed")
    np.testing.assert_allclose(tokens, wanted, rtol=1e-6)


@pytest.mark.parametrize("attention", ["plain", "blockwise"])
def test_bfloat16(attention):
    """Parameters and logits stay float32; the result is the float32 one to bfloat16's digits."""
    model = MODEL.clone(dtype=jnp.bfloat16, attention=attention)
    assert {x.dtype for x in jax.tree.leaves(shapes_of(model))} == {jnp.dtype(jnp.float32)}
    variables = draw(model)
    wanted = MODEL.apply(variables, IMAGES)
    logits, out = jax.jit(partial(model.apply, mutable=["qkv"]))(variables, IMAGES)
    assert logits.dtype == jnp.float32
    assert {x.dtype for x in jax.tree.leaves(out)} == {jnp.dtype(jnp.bfloat16)}
    error = np.abs(logits - wanted).max() / np.abs(wanted).max()
    assert 1e-4 < error < 0.05
    gradient = jax.eval_shape(jax.grad(lambda v: model.apply(v, IMAGES).sum()), variables)
    assert {x.dtype for x in jax.tree.leaves(gradient)} == {jnp.dtype(jnp.float32)}


@pytest.mark.parametrize("scan", [False, True])
def test_rematerialisation_changes_no_gradient(scan):
    variables = draw(MODEL.clone(scan=scan))

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def gradients(variables):
        models = [MODEL.clone(scan=scan, remat=remat) for remat in ("none", "full", "dots")]
        return [jax.grad(lambda v, m=m: m.apply(v, IMAGES).sum())(variables) for m in models]

    none, *others = gradients(variables)
    for other in others:
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), other, none)


@pytest.mark.parametrize("remat", ["none", "full", "dots"])
def test_rematerialisation_is_in_the_program(remat):
    model = MODEL.clone(remat=remat)
    program = str(jax.make_jaxpr(lambda v: model.apply(v, IMAGES))(draw(model)))
    # Activations are computed again in any case; a block's own has a policy.
    assert (set(re.findall(r"policy=(\S+)", program)) == {"None"}) == (remat == "none")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_heads": 5}, "num_heads: 5 does not divide width 48"),
        ({"pool": "max"}, "pool: 'max' is none of"),
        ({"register_position": True}, "register_position: needs registers"),
        ({"class_token": False}, "pool='cls' needs class_token=True"),
        ({"pool": "none"}, "pool='none' goes with num_classes=0"),
        ({"position": "rotary"}, "position: 'rotary' is none of"),
        ({"position_resize": "nearest"}, "position_resize: 'nearest' is none of"),
        ({"kernel_init": "zeros"}, "kernel_init: 'zeros' is none of"),
        ({"remat": "all"}, "remat: 'all' is none of"),
        ({"attention": "flash"}, "model.attention: 'flash' is unknown"),
        ({"image_size": 34}, "image_size: 34×34 pixels .* 8-pixel patches"),
        ({"position": "sincos", "width": 30}, "width: 30 is not a multiple of 4"),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        shapes_of(MODEL.clone(**fields))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"images: expected shape \(B, H, W, 3\), got \(32, 32, 3\)"),
        (IMAGES[0, 0], r"images: .* got \(32, 3\)"),
        (IMAGES.transpose(0, 3, 1, 2), r"images: .* got \(3, 3, 32, 32\)"),
        (IMAGES[:, :31], "31×32 pixels are not a whole number of 8-pixel patches"),
    ],
)
def test_images_are_checked(images, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(MODEL.apply, shapes_of(MODEL), images)
    with pytest.raises(ValueError, match=message):
        extract(MODEL, draw(MODEL), images)


def test_a_remainder_of_pixels_is_left_out_only_where_asked():
    dropping = VisionTransformer(image_size=37, drop_remainder=True, **FIELDS)
    variables = draw(dropping)
    wide = np.pad(IMAGES, ((0, 0), (0, 5), (0, 7), (0, 0)), constant_values=9)
    assert dropping.grid == MODEL.grid
    np.testing.assert_array_equal(dropping.apply(variables, wide), MODEL.apply(variables, IMAGES))
    with pytest.raises(ValueError, match="image_size: 37×39 pixels are not a whole number of 8-pi"):
        MODEL.apply(variables, wide)
    with pytest.raises(ValueError, match="image_size: 32×7 pixels are smaller than one 8-pixel pa"):
        dropping.apply(variables, IMAGES[:, :, :7])
