"""The distillation loss's own kernel, interpreted: as float64, for any tokens; and it lowers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from tests.models.attention_reference import draw, wide
from vit_jax_xfer.models.attention import fused_loss
from vit_jax_xfer.models.attention.kernel_choice import choose_loss
from vit_jax_xfer.models.vit import VisionTransformer
from vit_jax_xfer.train.collectives import collectives
from vit_jax_xfer.train.sharding import make_mesh
from vit_jax_xfer.transfer.forward import transfer_forward
from vit_jax_xfer.transfer.map_free import cross_entropy
from vit_jax_xfer.transfer.spec import Transfer


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(fused_loss, "INTERPRET", True)


@pytest.fixture
def in_tiles(monkeypatch):
    """Tiles small enough that few tokens make several."""
    monkeypatch.setattr(fused_loss, "ONE_PASS", {"gpu": 0, "tpu": 0})
    monkeypatch.setattr(fused_loss, "TILE", {"gpu": (16, 16), "tpu": (128, 128)})


def student_and_teacher(tokens, dims, dtype, heads=2):
    """q and k of both sides, of heads of two sizes; scores of a few units."""
    sizes = enumerate((dims[0], dims[0], dims[1], dims[1]))
    return tuple(draw(seed, tokens, dim, dtype, heads, scale=2.0) for seed, dim in sizes)


def by_hand(student_q, student_k, teacher_q, teacher_k):
    """The definition in numpy, float64: rows (B, H, T), and the gradients of their sum."""

    def log_map(q, k):
        scores = np.einsum("bthd,bshd->bhts", q, k) * q.shape[-1] ** -0.5
        scores -= scores.max(-1, keepdims=True)
        return scores - np.log(np.exp(scores).sum(-1, keepdims=True))

    student_q, student_k, teacher_q, teacher_k = map(
        wide, (student_q, student_k, teacher_q, teacher_k)
    )
    own, theirs = log_map(student_q, student_k), np.exp(log_map(teacher_q, teacher_k))
    difference = (np.exp(own) - theirs) * student_q.shape[-1] ** -0.5
    grad_q = np.einsum("bhts,bshd->bthd", difference, student_k)
    return (
        -(theirs * own).sum(-1),
        grad_q,
        np.einsum("bhts,bthd->bshd", difference, student_q),
    )


def check(arrays, backend="gpu", exact=3e-6):
    """Rows and gradients against `by_hand`, and rows alone, at the rounding of their type."""
    dtype = arrays[0].dtype
    wanted = by_hand(*arrays)
    got = fused_loss.rows_and_gradients(*arrays, True, backend)
    got += fused_loss.rows_and_gradients(*arrays, False, backend)
    assert [x.dtype for x in got] == [jnp.float32, dtype, dtype, jnp.float32]
    tolerances = [exact, *[exact if dtype == jnp.float32 else 2**-7] * 2, exact]
    for one, want, tolerance in zip(got, (*wanted, wanted[0]), tolerances, strict=True):
        assert one.shape == want.shape
        atol = tolerance * max(1.0, np.abs(want).max())
        np.testing.assert_allclose(wide(one), want, rtol=0, atol=atol)


def test_one_pass():
    check(student_and_teacher(21, (8, 12), jnp.float32))


@pytest.mark.usefixtures("in_tiles")
def test_tile_by_tile():
    check(student_and_teacher(21, (8, 12), jnp.bfloat16))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("dims", [(64, 80), (80, 64)])
@pytest.mark.parametrize("tokens", [1, 5, 65, 197, 300])
@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_any_tokens(backend, tokens, dims, dtype):
    check(student_and_teacher(tokens, dims, dtype, heads=3), backend)


@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize("tokens", [1, 65, 197, 300])
@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_any_tokens_tile_by_tile(backend, tokens):
    check(student_and_teacher(tokens, (64, 80), jnp.float32, heads=3), backend)


@pytest.mark.usefixtures("in_tiles")
def test_scores_of_hundreds_stay_finite():
    arrays = student_and_teacher(21, (8, 12), jnp.float32)
    check(tuple(10 * x for x in arrays), exact=1e-4)  # of scores of 1,000, in float32


def test_padding_of_keys_weighs_nothing(in_tiles):
    """All of a row's scores far below the zeros that padding would have."""
    one = jnp.ones((1, 21, 1, 8))
    check((3 * one, -3 * one, 3 * one, -4 * one))


def test_loss_and_its_derivative_are_those_by_rows():
    arrays = student_and_teacher(21, (8, 12), jnp.float32)

    def total(loss_kernel, *arrays):
        loss = cross_entropy(*arrays, loss_kernel=loss_kernel)
        return (loss * jnp.array([1.0, -3.0])).sum(), loss

    found = [
        jax.value_and_grad(partial(total, kernel), (0, 1, 2, 3), has_aux=True)(*arrays)
        for kernel in ("fused", "auto")
    ]
    for got, want in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("scan", [False, True])
def test_a_transfer_takes_it(scan):
    model = VisionTransformer(
        image_size=8, patch_size=2, width=16, depth=2, num_heads=2, num_classes=3, scan=scan
    )
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    own, theirs = (model.init(jax.random.key(seed), images) for seed in (1, 2))

    def loss(own, loss_kernel):
        return transfer_forward(model, own, model, theirs, images, loss_kernel=loss_kernel)[1]

    found = [jax.value_and_grad(loss)(own, kernel) for kernel in ("fused", "auto")]
    for got, want in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    text = str(jax.make_jaxpr(partial(loss, loss_kernel="fused"))(own))
    assert "pallas_call" in text


def test_on_a_mesh_nothing_travels():
    arrays = [draw(seed, 5, 8, jnp.float32, heads=2, batch=4) for seed in range(4)]
    mesh = make_mesh(2, 2, 2)
    where = NamedSharding(mesh, P(("data", "fsdp"), None, "tensor", None))

    def gradients(*arrays):
        loss = partial(cross_entropy, loss_kernel="fused")
        return jax.grad(lambda *x: loss(*x).sum(), (0, 1))(*arrays)

    with jax.set_mesh(mesh):
        step = jax.jit(gradients, in_shardings=where, out_shardings=where).lower(*arrays).compile()
    # The cotangent of a loss is the same for every head, so nothing is summed over them.
    assert collectives(step.as_text()) == []
    got = step(*(jax.device_put(x, where) for x in arrays))
    for one, want in zip(got, gradients(*arrays), strict=True):
        np.testing.assert_allclose(one, want, rtol=1e-5, atol=1e-7)


def lowered(backend, tokens, dtype, dim=64):
    """The StableHLO of value and gradients for a device that is not here."""
    described = AbstractDevice(
        device_kind={"gpu": "NVIDIA H100 80GB HBM3", "tpu": "TPU v5 lite"}[backend],
        num_cores=1,
        platform=backend,
    )
    mesh = AbstractMesh((1,), ("data",), (AxisType.Auto,), abstract_device=described)
    x = jax.ShapeDtypeStruct((2, tokens, 3, dim), dtype)

    def total(q, k):
        return cross_entropy(q, k, q, k, loss_kernel="fused").sum()

    with jax.sharding.use_abstract_mesh(mesh):
        traced = jax.jit(jax.value_and_grad(total, (0, 1))).trace(x, x)
        platforms = {"gpu": "cuda", "tpu": "tpu"}
        return traced.lower(lowering_platforms=(platforms[backend],)).as_text()


@pytest.mark.parametrize(
    ("backend", "tokens", "dtype", "dim", "kernels"),
    [
        ("gpu", 197, jnp.bfloat16, 64, 1),
        ("gpu", 197, jnp.float32, 80, 2),
        ("tpu", 197, jnp.bfloat16, 80, 1),
        ("tpu", 5185, jnp.float32, 64, 2),
    ],
)
def test_it_lowers_for_devices_that_are_not_here(monkeypatch, backend, tokens, dtype, dim, kernels):
    monkeypatch.setattr(fused_loss, "INTERPRET", False)
    text = lowered(backend, tokens, dtype, dim)
    name = {"gpu": "__gpu$xla.gpu.triton", "tpu": "tpu_custom_call"}[backend]
    assert text.count(f"custom_call @{name}") == kernels
    assert f"{tokens}x{tokens}" not in text


def test_a_tile_of_all_keys_is_bounded_by_its_bytes():
    assert fused_loss.tiling(197, 128, "gpu") == (197, 32, 256, 224, 256)
    assert fused_loss.tiling(197, 256, "gpu") == (197, 64, 64, 256, 256)
    assert fused_loss.tiling(5, 128, "gpu") == (5, 32, 16, 32, 16)
    assert fused_loss.tiling(197, 128, "tpu") == (197, 128, 256, 256, 256)
    assert fused_loss.tiling(5185, 128, "tpu") == (5185, 256, 512, 5376, 5632)


def shaped(dtype):
    return jax.ShapeDtypeStruct((1, 5, 2, 8), dtype)


def test_what_cannot_run_says_why(monkeypatch):
    arrays = (shaped(jnp.float32),) * 4

    def refusal(tensors, portable=False):
        with pytest.raises(ValueError, match=r"^task.loss_kernel: fused [^\n]*$") as failure:
            choose_loss(tensors, "fused", "auto", None, portable)
        return str(failure.value)

    assert "neither a bias in the scores nor means" in refusal(arrays, portable=True)
    assert "not float32 and bfloat16" in refusal((*arrays[:3], shaped(jnp.bfloat16)))
    assert "not float16" in refusal((shaped(jnp.float16),) * 4)
    monkeypatch.setattr(fused_loss, "INTERPRET", False)
    assert "runs on GPUs and TPUs, not on this cpu" in refusal(arrays)


@pytest.mark.parametrize(
    "fields",
    [{"mode": "copy"}, {"mode": "distill_q"}, {"materialize": True}, {"average": "images"}],
)
def test_a_transfer_without_such_a_loss_refuses_it(fields):
    with pytest.raises(ValueError, match="loss_kernel: 'fused' "):
        Transfer(**fields, loss_kernel="fused")
    with pytest.raises(ValueError, match="loss_kernel"):
        Transfer(loss_kernel="triton")
