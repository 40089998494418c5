"""Products in bfloat16 whose sums are float32: values, gradients, and where they stand."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import vit_jax_xfer as vjx
from vit_jax_xfer.models.lifting.convex_lift import ConvexLiFT
from vit_jax_xfer.models.lifting.lift import LiFT
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
    x = jax.random.normal(jax.random.key(0), (2, 5, 3, 4))
    plain = nn.DenseGeneral(6, axis=(-2, -1))
    small = nn.DenseGeneral(6, axis=(-2, -1), dot_general=dot_general_in("bfloat16"))
    variables = plain.init(jax.random.key(1), x)
    np.testing.assert_allclose(small.apply(variables, x), plain.apply(variables, x), atol=0.02)
    with pytest.raises(ValueError, match="over x's last axes"):
        dot_general_in("bfloat16")(x, x, (((0,), (0,)), ((), ())))


LAYERS = {
    "qkv": ((2, 5, 6), (6, 3, 2, 4), 1),
    "fc1": ((2, 5, 6), (6, 7), 1),
    "proj": ((2, 5, 3, 2), (3, 2, 7), 2),
    "pointwise": ((2, 3, 4, 6), (6, 8), 1),
    "one row": ((6,), (6, 2), 1),
    "no image": ((0, 5, 6), (6, 7), 1),
}


def _layer(x: jax.Array, kernel: jax.Array, taken: int) -> jax.Array:
    numbers = (tuple(range(x.ndim - taken, x.ndim)), tuple(range(taken))), ((), ())
    return dot_general_in(None)(x, kernel, numbers)


@pytest.mark.parametrize("layer", LAYERS)
def test_matrices_on_one_cpu_give_what_more_axes_give(
    layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape, kernel_shape, taken = LAYERS[layer]
    x = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), kernel_shape)
    wanted = np.tensordot(np.float64(x), np.float64(kernel), taken)

    def loss(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return jnp.sin(_layer(x, kernel, taken)).sum()

    def found() -> list[jax.Array]:
        forward = jax.jvp(loss, (x, kernel), (x, kernel))[1]
        each = jax.vmap(lambda one: _layer(one, kernel, taken))(x[None])[0]
        return [_layer(x, kernel, taken), each, forward, *jax.grad(loss, (0, 1))(x, kernel)]

    axes = found()
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    matrices = found()
    np.testing.assert_allclose(axes[0], wanted, atol=1e-5)
    for one, other in zip(matrices, axes, strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-5)
    ranks = {len(v.aval.shape) for e in _products(x, kernel, taken) for v in e.invars}
    assert ranks == {2}


def _products(x: jax.Array, kernel: jax.Array, taken: int) -> list[jax.extend.core.JaxprEqn]:
    found = jax.make_jaxpr(lambda x, kernel: _layer(x, kernel, taken))(x, kernel)
    return [equation for equation in found.eqns if equation.primitive.name == "dot_general"]


# What one device computes in every layer: the tests' eight would show none of it.
@pytest.mark.parametrize(
    "network",
    [
        vjx.create_model("vit_micro_patch4"),
        vjx.create_model("filter_vit_micro"),
        LiFT(patch_size=4, width=8),
        ConvexLiFT(patch_size=4, width=8),
    ],
    ids=lambda network: type(network).__name__,
)
def test_networks_multiply_matrices_on_one_cpu_alone(
    network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [jnp.zeros((2, 32, 32, 3))]
    if isinstance(network, LiFT | ConvexLiFT):
        inputs.append(jnp.zeros((2, 8, 8, 8)))
    variables = jax.eval_shape(network.init, jax.random.key(0), *inputs)

    def most_axes() -> int:
        """Of what is multiplied by weights; other products have another form."""
        text = jax.jit(lambda v, *inputs: network.apply(v, *inputs)).lower(variables, *inputs)
        layer = r"contracting_dims = \[\d\] x \[0\],.*?tensor<([\dx]+)xf32>"
        return max(shape.count("x") + 1 for shape in re.findall(layer, text.as_text()))

    assert most_axes() > 2
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert most_axes() == 2


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
