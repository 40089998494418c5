"""Kernels on a mesh of eight fake devices: each computes its own, nothing travels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.models.attention_reference import check, draw, expected, tensors
from vit_jax_xfer.models.attention import kernels, splash
from vit_jax_xfer.models.attention.per_device import per_device
from vit_jax_xfer.train.collectives import collectives
from vit_jax_xfer.train.sharding import make_mesh

SPLIT = P(("data", "fsdp"), None, "tensor", None)
SCALE = 0.3


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(splash, "INTERPRET", True)


def forward_and_back(q, k, v, cotangent):
    def attend(q, k, v):
        return kernels.dot_product_attention(q, k, v, scale=SCALE, implementation="splash")

    out, back = jax.vjp(attend, q, k, v)
    return out, back(cotangent)


def compiled(mesh, function, arrays, spec):
    where = NamedSharding(mesh, spec)
    with jax.set_mesh(mesh):
        program = jax.jit(function, in_shardings=where, out_shardings=where)
        step = program.lower(*arrays).compile()
    return step, [jax.device_put(x, where) for x in arrays]


@pytest.mark.parametrize("sizes", [(8, 1, 1), (2, 2, 2), (4, 1, 2)])
def test_each_device_computes_its_images_and_heads(sizes):
    arrays = tensors(21, 21, 8, 6, np.float32, heads=2, batch=8)
    wanted, _, gradients = expected(*arrays, SCALE)
    step, placed = compiled(make_mesh(*sizes), forward_and_back, arrays, SPLIT)
    assert collectives(step.as_text()) == []
    out, got = step(*placed)
    check(out, wanted, 2e-6)
    for one, want in zip(got, gradients, strict=True):
        check(one, want, 5e-6)


def test_logsumexp_lies_with_its_images_and_heads():
    q, k, v, cotangent = tensors(21, 21, 8, 6, np.float32, heads=2, batch=8)

    def statistics(q, k, v):
        arguments = {"scale": SCALE, "implementation": "splash", "blockwise_above": 8}
        return kernels.logsumexp_without_derivative(q, k, v, **arguments)[1]

    mesh = make_mesh(2, 2, 2)
    with jax.set_mesh(mesh):
        program = jax.jit(statistics, in_shardings=NamedSharding(mesh, SPLIT))
        step = program.lower(q, k, v).compile()
    assert collectives(step.as_text()) == []
    assert step.output_shardings.shard_shape((8, 2, 21)) == (2, 1, 21)
    got = step(*(jax.device_put(x, NamedSharding(mesh, SPLIT)) for x in (q, k, v)))
    np.testing.assert_allclose(got, expected(q, k, v, cotangent, SCALE)[1], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(("batch", "heads"), [(3, 2), (8, 3), (1, 1)])
def test_what_a_mesh_does_not_divide_still_computes(batch, heads):
    """A network's first pass has one image; three heads go on no two devices."""
    arrays = tensors(21, 21, 8, 6, np.float32, heads=heads, batch=batch)
    wanted, _, gradients = expected(*arrays, SCALE)
    step, placed = compiled(make_mesh(2, 2, 2), forward_and_back, arrays, P())
    out, got = step(*placed)
    check(out, wanted, 2e-6)
    for one, want in zip(got, gradients, strict=True):
        check(one, want, 5e-6)


def test_a_bias_goes_with_its_heads():
    x = draw(0, 5, 8, np.float32, heads=2, batch=4)
    bias = jnp.arange(50.0).reshape(2, 5, 5)
    shapes = []

    def attend(q, k, v, bias):
        shapes.append((q.shape, bias.shape))
        return v + bias.mean((1, 2))[:, None]

    def total(bias):
        return per_device(attend, x, x, x, bias).sum()

    with jax.set_mesh(make_mesh(2, 2, 2)):
        gradient = jax.jit(jax.grad(total))(bias)
        out = jax.jit(lambda bias: per_device(attend, x, x, x, bias))(bias)
    assert set(shapes) == {((1, 5, 1, 8), (1, 5, 5))}
    np.testing.assert_allclose(out, x + bias.mean((1, 2))[:, None], rtol=1e-6)
    # Every image's and token's outputs are sums over the same bias: 4 · 5 · 8 / 25.
    np.testing.assert_allclose(gradient, np.full((2, 5, 5), 6.4), rtol=1e-6)


def test_inside_a_shard_map_nothing_is_mapped_again():
    arrays = tensors(21, 21, 8, 6, np.float32, heads=2, batch=8)[:3]
    mesh = make_mesh(8, 1, 1)

    def attend(q, k, v):
        return kernels.dot_product_attention(q, k, v, scale=SCALE, implementation="splash")

    with jax.set_mesh(mesh):
        mapped = jax.shard_map(attend, in_specs=P("data"), out_specs=P("data"), check_vma=False)
        out = jax.jit(mapped)(*arrays)
    check(out, np.asarray(attend(*arrays), np.float64), 1e-6)
