"""Products in bfloat16 whose sums are float32: values, gradients, and where they stand."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.products import dot_general_in, product

EPS = 2.0**-8  # half of bfloat16's step at 1


def _rounded(x: jax.Array) -> np.ndarray:
    return np.asarray(x.astype(jnp.bfloat16)).astype(np.float64)


def test_the_product_is_that_of_rounded_factors_and_so_are_both_gradients() -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (2, 5, 24))
    kernel = jax.random.normal(keys[1], (24, 3, 7))
    slope = jax.random.normal(keys[2], (2, 5, 3, 7))
    out, pull = jax.vjp(lambda x, k: product(x, k, "bfloat16"), x, kernel)
    a, b, g = _rounded(x), _rounded(kernel), _rounded(slope)
    np.testing.assert_allclose(out, np.tensordot(a, b, 1), rtol=0, atol=1e-5)
    to_x, to_kernel = pull(slope)
    np.testing.assert_allclose(to_x, np.einsum("btnd,cnd->btc", g, b), rtol=0, atol=1e-5)
    np.testing.assert_allclose(to_kernel, np.einsum("btc,btnd->cnd", a, g), rtol=0, atol=1e-5)
    assert (out.dtype, to_x.dtype, to_kernel.dtype) == (jnp.float32,) * 3
    # Not exact, else nothing was multiplied in bfloat16.
    assert np.abs(out - np.tensordot(np.float64(x), np.float64(kernel), 1)).max() > 1e-3


def test_a_bfloat16_result_is_rounded_once() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 512), jnp.bfloat16)
    kernel = jax.random.normal(jax.random.key(1), (512, 4), jnp.bfloat16)
    exact = _rounded(x) @ _rounded(kernel)
    out = product(x, kernel, "bfloat16")
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float64(out), exact, rtol=EPS, atol=1e-4)


def test_flax_layers_over_two_axes_take_it() -> None:
    import flax.linen as nn

    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 4))
    plain = nn.DenseGeneral(6, axis=(-2, -1))
    small = nn.DenseGeneral(6, axis=(-2, -1), dot_general=dot_general_in("bfloat16"))
    variables = plain.init(jax.random.key(1), x)
    np.testing.assert_allclose(small.apply(variables, x), plain.apply(variables, x), atol=0.02)
    with pytest.raises(ValueError, match="over x's last axes"):
        dot_general_in("bfloat16")(x, x, (((0,), (0,)), ((), ())))


def test_none_is_flax_s_own() -> None:
    assert dot_general_in(None) is None


def _dots(text: str) -> list[str]:
    """The types of the products of matrices in a program: "bf16×bf16→f32"."""
    found = re.findall(
        r"stablehlo.dot_general.*?: \(tensor<\S*x(\w+)>, tensor<\S*x(\w+)>\) -> "
        r"tensor<\S*x(\w+)>",
        text,
    )
    return [f"{a}×{b}→{c}" for a, b, c in found]


@pytest.mark.parametrize("mlp", ["plain", "swiglu"])
def test_all_products_of_blocks_and_of_their_gradients_are_so(mlp: str) -> None:
    fields = {"image_size": 8, "num_classes": 3, "depth": 2, "mlp": mlp}
    model = vjx.create_model("vit_micro_patch4", **fields, product_dtype=jnp.bfloat16)
    images = jnp.zeros((2, 8, 8, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)

    def total(variables: dict, images: jax.Array) -> jax.Array:
        return model.apply(variables, images).sum()

    found = _dots(jax.jit(jax.grad(total)).lower(variables, images).as_text())
    # qkv, proj, fc1, fc2 and a gate: forward, to the tokens and to the kernel.
    assert found.count("bf16×bf16→f32") == 2 * 3 * (5 if mlp == "swiglu" else 4)
    assert set(found) == {"bf16×bf16→f32", "f32×f32→f32"}  # the latter: patches, maps, head


def test_logits_stay_near_and_gradients_point_alike() -> None:
    fields = {"image_size": 16, "num_classes": 5}
    model = vjx.create_model("vit_micro_patch4", **fields)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    variables = model.init(jax.random.key(1), images)
    small = model.clone(product_dtype=jnp.dtype("bfloat16"))

    def loss(variables: dict, model: vjx.VisionTransformer) -> jax.Array:
        return -jax.nn.log_softmax(model.apply(variables, images))[:, 0].mean()

    exact, near = (jax.grad(loss)(variables, one) for one in (model, small))
    exact, near = (np.concatenate([x.ravel() for x in jax.tree.leaves(g)]) for g in (exact, near))
    cosine = exact @ near / np.linalg.norm(exact) / np.linalg.norm(near)
    assert 0.999 < cosine < 1 - 1e-9


def test_another_type_is_refused() -> None:
    model = vjx.create_model("vit_micro_patch4", product_dtype=jnp.float16)
    with pytest.raises(ValueError, match="product_dtype: float16 is none of bfloat16, float32"):
        model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    with pytest.raises(ValueError, match="product_dtype: got 'half16', expected a floating type"):
        vjx.create_model("vit_micro_patch4", product_dtype="half16")


@pytest.mark.parametrize("field", ["dtype", "product_dtype"])
@pytest.mark.parametrize("name", ["half16", "int8"])
def test_a_config_with_no_floating_type_is_refused_by_its_field(field: str, name: str) -> None:
    from vit_jax_xfer.tasks.configured_model import given_fields

    with pytest.raises(ValueError, match=f"^model.{field}: got '{name}', expected a floating type"):
        given_fields({"name": "vit_micro_patch4", field: name})
