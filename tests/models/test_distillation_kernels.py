"""The map-free distillation on each kernel: the loss from maps and its gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models.attention_reference import check, draw
from vit_jax_xfer.models.attention import splash
from vit_jax_xfer.transfer import losses, map_free

KERNELS = ["plain", "blockwise", "splash", "tokamax"]
TOKENS = 21


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(splash, "INTERPRET", True)


def student_and_teacher(dtype):
    """q and k of a student with heads of 8 and of a teacher with heads of 12."""
    sizes = enumerate((8, 8, 12, 12))
    return tuple(draw(seed, TOKENS, dim, dtype, scale=2.0) for seed, dim in sizes)


def loss_and_gradients(form, *arrays):
    """An image's loss (B,), and the gradients by the student's q and k of a sum with weights."""

    def total(*arrays):
        loss = form(*arrays)
        return (loss * jnp.array([1.0, -3.0])).sum(), loss

    (_, loss), gradients = jax.value_and_grad(total, (0, 1), has_aux=True)(*arrays)
    return loss, *gradients


def from_maps(*arrays):
    return losses.map_cross_entropy(*arrays).mean(axis=(1, 2))


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2**-6)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_loss_and_gradient(kernel, dtype, tolerance):
    if kernel == "tokamax":
        pytest.importorskip("tokamax", reason="the optional package tokamax is not installed")
    arrays = student_and_teacher(dtype)
    with jax.enable_x64(True):
        double = (jnp.asarray(np.asarray(x.astype(jnp.float32), np.float64)) for x in arrays)
        wanted = loss_and_gradients(from_maps, *double)
    form = partial(map_free.cross_entropy, implementation=kernel, blockwise_above=8)
    got = loss_and_gradients(form, *arrays)
    assert got[0].dtype == jnp.float32
    for one, want in zip(got, wanted, strict=True):
        check(one, np.asarray(want), tolerance)


def test_splash_leaves_no_map_in_the_program():
    x = draw(0, 1500, 8, np.float32, heads=1, batch=1)

    def loss(q, k):
        return map_free.cross_entropy(q, k, x, x, "splash", 1024).sum()

    text = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(x, x))
    assert "pallas_call" in text
    assert "1500,1500" not in text and "1536,1536" not in text
