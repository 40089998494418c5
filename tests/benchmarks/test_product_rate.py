"""The products of a network, and the time that they take alone."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import vit_jax_xfer as vjx
from benchmarks import product_rate
from benchmarks.product_rate import FORWARD, TO_INPUTS, TO_WEIGHTS, ProductRate
from benchmarks.product_shapes import Product, products, products_in
from vit_jax_xfer.models.multiply_adds import multiply_adds


def work(found):
    return sum(often * one.multiply_adds for one, often in found.items())


def test_a_vits_products_are_all_that_it_multiplies():
    model = vjx.create_model("vit_micro_patch8", image_size=32, num_classes=7)
    found = products(model, batch=2)
    assert work(found) == multiply_adds(model, batch=2)
    tokens, width, heads = 17, model.width, model.num_heads
    assert found[Product(1, 2 * tokens, width, 4 * width)] == model.depth
    assert found[Product(2 * heads, tokens, width // heads, tokens)] == model.depth
    assert found[Product(1, 2, width, 7)] == 1
    scanned = products(model.clone(scan=True), batch=2)
    assert scanned == found


def test_convolutions_are_products_of_windows_and_those_by_channel_are_none():
    def network(image, kernel, narrow):
        numbers = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(image, kernel, (2, 2), "SAME", dimension_numbers=numbers)
        return lax.conv_general_dilated(
            x, narrow, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=6
        )

    shapes = ((2, 8, 8, 3), (3, 3, 3, 6), (3, 3, 1, 6))
    program = jax.make_jaxpr(network)(*(jnp.zeros(shape) for shape in shapes))
    assert products_in(program.jaxpr) == {Product(1, 2 * 4 * 4, 27, 6): 1}


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_form_is_what_it_says(framework, batch, monkeypatch):
    if framework == "torch":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        seen, real = [], torch.matmul
        monkeypatch.setattr(torch, "matmul", lambda *given: seen.append(real(*given)))
    make = {"jax": product_rate._jax_runs, "torch": product_rate._torch_runs}[framework]
    product = Product(batch, 4, 5, 6)
    runs = make(product, "float32", [FORWARD, TO_INPUTS, TO_WEIGHTS])
    x, w, g = product_rate._arrays(product)
    wanted = (x @ w, g @ w.swapaxes(-1, -2), x.swapaxes(-1, -2) @ g)
    for form, run in enumerate(runs):
        found = run(1)[0] if framework == "jax" else (run(1), seen.pop())[1]
        found = np.asarray(found)
        if found.shape != wanted[form].shape:  # PyTorch's gradient is of nn.Linear's weight
            found = found.swapaxes(-1, -2)
        np.testing.assert_allclose(found, wanted[form], rtol=1e-5, atol=1e-5)


def test_each_product_counts_as_often_as_the_step_has_it(monkeypatch):
    made = []

    def runs(product, dtype, forms):
        made.append((product.rows, dtype, tuple(forms)))
        return [lambda times, form=form: time.sleep(0.002 * times) for form in forms]

    monkeypatch.setattr(product_rate, "_jax_runs", runs)
    monkeypatch.setattr(product_rate, "repeats", lambda run: 1)
    small, large = Product(1, 2, 3, 4), Product(1, 5, 6, 7)
    rate = ProductRate({small: 2, large: 1}, "distill", "jax", "bfloat16")
    assert made == [(2, "bfloat16", (0, 1, 2)), (5, "bfloat16", (0, 1, 2))]
    assert rate.gflops == pytest.approx(2e-9 * 4 * (2 * 24 + 210))
    # 4 = a teacher's forward pass, and three forms; of three products.
    assert 12 * 0.002 <= rate.seconds() < 12 * 0.02
    alone = ProductRate({large: 1}, "inference", "jax")
    assert alone.gflops == pytest.approx(2e-9 * 210)


def test_short_products_run_several_times():
    assert product_rate.repeats(lambda times: None) == 50
    assert product_rate.repeats(lambda times: time.sleep(0.01)) == 1


def test_products_in_a_loop_of_unknown_length_are_an_error():
    def network(x):
        return lax.while_loop(lambda x: x.sum() < 9, lambda x: x @ x, x)

    program = jax.make_jaxpr(network)(jnp.zeros((2, 2)))
    with pytest.raises(ValueError, match="a while loop with products in it"):
        products_in(program.jaxpr)
