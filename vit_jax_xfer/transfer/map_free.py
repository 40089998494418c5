"""Distillation of attention without a map: memory linear in the tokens, its derivative its own.

With s a student's scores, pˢ and pᵀ the two sides' maps, CEᵢ = logΣexp(sᵢ) − Σⱼ pᵀᵢⱼ sᵢⱼ, and
∂CEᵢ/∂sᵢⱼ = pˢᵢⱼ − pᵀᵢⱼ. The loss of an image is the mean of its rows, so its gradients are known in
the forward pass but for one factor an image: they are computed there, and they alone are kept.
The teacher's tensors are not needed again, and a block of maps serves value and gradients.
"""

from functools import partial

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.attention import fused_loss, kernels
from vit_jax_xfer.models.attention.kernel_choice import choose_loss
from vit_jax_xfer.models.attention.per_device import per_device
from vit_jax_xfer.models.devices import platform
from vit_jax_xfer.transfer.losses import Bias, map_cross_entropy

# Queries and keys of the student, then of the teacher.
Tensors = tuple[jax.Array, jax.Array, jax.Array, jax.Array]
Gradients = tuple[jax.Array, jax.Array]


def cross_entropy(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    implementation: str = "auto",
    blockwise_above: int | None = None,
    student_bias: Bias = None,
    teacher_bias: Bias = None,
    groups: int | None = None,
    loss_kernel: str = "auto",
) -> jax.Array:
    """`map_cross_entropy` averaged over heads and rows, (B,) float32.

    implementation: see kernels.py; "auto" goes by rows of maps, all at once up to `blockwise_above`
    keys, on every backend, and another kernel's name by that kernel. loss_kernel: "fused" takes the
    loss's own kernel instead (fused_loss.py). A bias or a mean of maps is no part of the derivative
    above: then blocks of rows of the maps are built one after the other, forward and again
    backward.
    """
    teacher_q, teacher_k = jax.lax.stop_gradient((teacher_q, teacher_k))
    tensors = student_q, student_k, teacher_q, teacher_k
    portable = any(x is not None for x in (student_bias, teacher_bias, groups))
    kernel = choose_loss(tensors, loss_kernel, implementation, blockwise_above, portable)
    if kernel == "blocks":
        return _in_blocks(*tensors, student_bias, teacher_bias, groups)
    return _cross_entropy(*tensors, kernel, blockwise_above)


def _in_blocks(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    student_bias: Bias,
    teacher_bias: Bias,
    groups: int | None,
) -> jax.Array:
    """The loss over blocks of queries; the backward pass builds each block again."""

    def rows(
        student_q: jax.Array, teacher_q: jax.Array, student_bias: Bias, teacher_bias: Bias
    ) -> jax.Array:
        own, other = (jnp.swapaxes(q, 1, 2) for q in (student_q, teacher_q))
        tensors = own, student_k, other, teacher_k
        return map_cross_entropy(*tensors, student_bias, teacher_bias, groups)

    queries = (jnp.swapaxes(q, 1, 2) for q in (student_q, teacher_q))
    found = kernels.over_query_blocks(rows, *queries, student_bias, teacher_bias)
    return found.mean(axis=(1, 2))


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _cross_entropy(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    kernel: str,
    blockwise_above: int | None,
) -> jax.Array:
    tensors = student_q, student_k, teacher_q, teacher_k
    return _value(tensors, kernel, blockwise_above, gradients=False)[0]


def _forward(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    kernel: str,
    blockwise_above: int | None,
) -> tuple[jax.Array, Gradients]:
    tensors = student_q, student_k, teacher_q, teacher_k
    return _value(tensors, kernel, blockwise_above, gradients=True)


def _backward(
    kernel: str, blockwise_above: int | None, gradients: Gradients, cotangent: jax.Array
) -> tuple[jax.Array, jax.Array, None, None]:
    _, tokens, heads, _ = gradients[0].shape
    factor = (cotangent / (tokens * heads))[:, None, None, None]
    own_q, own_k = ((factor * g).astype(g.dtype) for g in gradients)
    return own_q, own_k, None, None


_cross_entropy.defvjp(_forward, _backward)


def _value(
    tensors: Tensors,
    kernel: str,
    blockwise_above: int | None,
    gradients: bool,
) -> tuple[jax.Array, Gradients | None]:
    """The loss (B,), and the gradients of the sum of its rows by the student's q and k."""
    student_q = tensors[0]
    _, tokens, heads, _ = student_q.shape
    if kernel == "fused":
        total, found = _by_fused_kernel(tensors, gradients)
    elif kernel in ("plain", "blockwise"):
        blocks = (1, tokens) if kernel == "plain" else kernels.block_rows(tokens)
        total, found = _by_rows(tensors, *blocks, gradients)
    else:
        total, found = _by_attention(tensors, kernel, blockwise_above, gradients)
    return total / (tokens * heads), found


def _by_fused_kernel(tensors: Tensors, gradients: bool) -> tuple[jax.Array, Gradients | None]:
    """As `_by_rows`, by a kernel of the loss's own, on each device's images and heads."""
    backend = "tpu" if platform() == "tpu" else "gpu"
    run = partial(fused_loss.rows_and_gradients, gradients=gradients, backend=backend)
    gives = ("rows", "tokens", "tokens") if gradients else ("rows",)
    rows, *found = per_device(run, *tensors, gives=gives)
    return rows.sum(axis=(1, 2)), tuple(found) if gradients else None


def _by_rows(
    tensors: Tensors,
    number: int,
    rows: int,
    gradients: bool,
) -> tuple[jax.Array, Gradients | None]:
    """The sum of all rows, (B,), and its gradients, from so many blocks of rows of both maps."""
    student_q, student_k, teacher_q, teacher_k = tensors
    student_k, teacher_k = (jnp.swapaxes(x, 1, 2) for x in (student_k, teacher_k))
    length, dtype = student_q.shape[1], student_q.dtype
    scale, teacher_scale = (x.shape[-1] ** -0.5 for x in (student_q, teacher_q))
    wide = jnp.promote_types(dtype, jnp.float32)

    def split(x: jax.Array) -> jax.Array:
        """(B, T, H, d) → blocks (number, B, H, rows, d), padded with zeros."""
        x = jnp.pad(x, ((0, 0), (0, number * rows - length), (0, 0), (0, 0)))
        return x.reshape(x.shape[0], number, rows, *x.shape[2:]).transpose(1, 0, 3, 2, 4)

    def step(sums: tuple, block: tuple[jax.Array, ...]) -> tuple[tuple, jax.Array | None]:
        total, grad_k = sums
        q, their_q, first = block
        product = partial(jnp.einsum, preferred_element_type=wide)
        scores = scale * product("bhtd,bhsd->bhts", q, student_k)
        theirs = jax.nn.softmax(teacher_scale * product("bhtd,bhsd->bhts", their_q, teacher_k))
        highest = scores.max(axis=-1, keepdims=True)
        weights = jnp.exp(scores - highest)
        sum_of_weights = weights.sum(axis=-1, keepdims=True)
        logsumexp = (highest + jnp.log(sum_of_weights))[..., 0]
        real = first + jnp.arange(rows) < length
        products = theirs * scores
        if platform() == "cpu":  # whose fused sum of products takes ten times as long as both apart
            products = jax.lax.optimization_barrier(products)
        value = jnp.where(real, logsumexp - products.sum(axis=-1), 0)
        total = total + value.sum(axis=(1, 2))
        if not gradients:
            return (total, grad_k), None
        # Rows of padding are alike on both sides, so that they add nothing.
        difference = (weights / sum_of_weights - theirs).astype(dtype)
        grad_q = scale * product("bhts,bhsd->bhtd", difference, student_k)
        grad_k = grad_k + scale * product("bhts,bhtd->bhsd", difference, q)
        return (total, grad_k), grad_q.astype(dtype)

    sums = jnp.zeros(student_q.shape[:1], wide), jnp.zeros(student_k.shape, wide)
    blocks = split(student_q), split(teacher_q), rows * jnp.arange(number)
    if number == 1:
        (total, grad_k), grad_q = step(sums, jax.tree.map(lambda x: x[0], blocks))
        grad_q = None if grad_q is None else grad_q[None]
    else:
        scan = partial(jax.lax.scan, unroll=kernels.unrolled(number))
        (total, grad_k), grad_q = scan(step, sums, blocks)
    if not gradients:
        return total, None
    grad_q = grad_q.transpose(1, 0, 3, 2, 4).reshape(student_q.shape[0], -1, *student_q.shape[2:])
    return total, (grad_q[:, :length], jnp.swapaxes(grad_k, 1, 2).astype(dtype))


def _by_attention(
    tensors: Tensors,
    implementation: str,
    blockwise_above: int | None,
    gradients: bool,
) -> tuple[jax.Array, Gradients | None]:
    """As `_by_rows`, by fused attention over the student's keys as values, and its transposes."""
    student_q, student_k, teacher_q, teacher_k = tensors
    scale = student_q.shape[-1] ** -0.5
    options = {"implementation": implementation, "blockwise_above": blockwise_above}
    own_keys, logsumexp = kernels.logsumexp_without_derivative(
        student_q, student_k, student_k, scale=scale, **options
    )
    attend = partial(kernels.dot_product_attention, **options)
    teacher_keys = attend(teacher_q, teacher_k, student_k)
    wide = logsumexp.dtype
    expected = jnp.einsum("bthd,bthd->bht", student_q, teacher_keys, preferred_element_type=wide)
    total = (logsumexp - scale * expected).sum(axis=(1, 2))
    if not gradients:
        return total, None

    def transpose(q: jax.Array, k: jax.Array) -> jax.Array:
        """Σᵢ pᵢⱼ qˢᵢ: the derivative of attention with respect to its values."""
        return jax.vjp(partial(attend, q, k), student_k)[1](student_q)[0].astype(wide)

    grad_q = scale * (own_keys.astype(wide) - teacher_keys.astype(wide))
    grad_k = scale * (transpose(student_q, student_k) - transpose(teacher_q, teacher_k))
    return total, (grad_q.astype(student_q.dtype), grad_k.astype(student_k.dtype))
