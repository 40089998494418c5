"""How far a student's attention is from its teacher's, per query and head.

q, k (B, T, H, d) come before the scale; each side's scale is 1/√d of its own head size. A bias
(H, T, T) is part of a side's scores. groups: the teacher's heads fall into this many groups in
their order, and the student's heads, as many (or any number for 1), learn each group's mean map;
None = head by head. The teacher's tensors are constants: no gradient reaches them.
"""

from functools import partial

import jax
import jax.numpy as jnp

from vit_jax_xfer.models import kernels

Bias = jax.Array | None


def map_cross_entropy(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    student_bias: Bias = None,
    teacher_bias: Bias = None,
    groups: int | None = None,
) -> jax.Array:
    """−Σⱼ pᵀᵢⱼ log pˢᵢⱼ per row, (B, H, T) float32, from the maps themselves (2411.09702)."""
    teacher = kernels.attention_map(*jax.lax.stop_gradient((teacher_q, teacher_k, teacher_bias)))
    scores = kernels.attention_scores(student_q, student_k, student_bias)
    student = jax.nn.log_softmax(scores, axis=-1)
    return -(mean_maps(teacher, groups) * student).sum(axis=-1)


def mean_maps(maps: jax.Array, groups: int | None) -> jax.Array:
    """Maps (B, H, T, S) → the mean of each of `groups` groups of heads, (B, groups, T, S)."""
    if groups is None:
        return maps
    return maps.reshape(maps.shape[0], groups, -1, *maps.shape[2:]).mean(axis=2)


def cross_entropy(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    implementation: str = "auto",
    blockwise_above: int = 1024,
    student_bias: Bias = None,
    teacher_bias: Bias = None,
    groups: int | None = None,
) -> jax.Array:
    """`map_cross_entropy` without a map: (B, H, T) float32, memory linear in the tokens.

    With s the student's scores, CEᵢ = logΣexp(sᵢ) − scale · qˢᵢ · (Σⱼ pᵀᵢⱼ kˢⱼ), and the bracket is
    attention with the teacher's q and k and the student's keys as values. A bias or a mean of maps
    is no part of that: then blocks of QUERY_BLOCK rows of the maps are built one after the other.
    """
    if student_bias is not None or teacher_bias is not None or groups is not None:
        tensors = student_q, student_k, teacher_q, teacher_k
        return _in_blocks(*tensors, student_bias, teacher_bias, groups)
    return _cross_entropy(
        student_q,
        student_k,
        jax.lax.stop_gradient(teacher_q),
        jax.lax.stop_gradient(teacher_k),
        implementation,
        blockwise_above,
    )


def _in_blocks(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    student_bias: Bias,
    teacher_bias: Bias,
    groups: int | None,
) -> jax.Array:
    """`map_cross_entropy` over blocks of queries; the backward pass builds each block again."""

    def rows(
        student_q: jax.Array, teacher_q: jax.Array, student_bias: Bias, teacher_bias: Bias
    ) -> jax.Array:
        own, other = (jnp.swapaxes(q, 1, 2) for q in (student_q, teacher_q))
        tensors = own, student_k, other, teacher_k
        return map_cross_entropy(*tensors, student_bias, teacher_bias, groups)

    queries = (jnp.swapaxes(q, 1, 2) for q in (student_q, teacher_q))
    return kernels.over_query_blocks(rows, *queries, student_bias, teacher_bias)


@partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _cross_entropy(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    implementation: str,
    blockwise_above: int,
) -> jax.Array:
    return _forward(student_q, student_k, teacher_q, teacher_k, implementation, blockwise_above)[0]


def _forward(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    implementation: str,
    blockwise_above: int,
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    scale = student_q.shape[-1] ** -0.5
    # The fused kernels round their log-sum-exp to the inputs' type, so this one call is portable.
    kernel = kernels.choose(student_q, student_k, student_k, implementation, blockwise_above)
    blockwise = kernel == "blockwise" or (
        kernel == "cudnn" and student_k.shape[1] > blockwise_above
    )
    own_keys, logsumexp = kernels.attention_with_logsumexp(
        student_q, student_k, student_k, scale=scale, blockwise=blockwise
    )
    teacher_keys = kernels.dot_product_attention(
        teacher_q,
        teacher_k,
        student_k,
        implementation=implementation,
        blockwise_above=blockwise_above,
    )
    wide = logsumexp.dtype
    expected = jnp.einsum("bthd,bthd->bht", student_q, teacher_keys, preferred_element_type=wide)
    residuals = (student_q, student_k, teacher_q, teacher_k, own_keys, teacher_keys)
    return logsumexp - scale * expected, residuals


def _backward(
    implementation: str,
    blockwise_above: int,
    residuals: tuple[jax.Array, ...],
    cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array, None, None]:
    """∂CE/∂s = pˢ − pᵀ, carried to q by the saved products and to k by two attention transposes."""
    student_q, student_k, teacher_q, teacher_k, own_keys, teacher_keys = residuals
    scale = student_q.shape[-1] ** -0.5
    weight = (scale * jnp.swapaxes(cotangent, 1, 2))[..., None]
    grad_q = weight * (own_keys.astype(weight.dtype) - teacher_keys.astype(weight.dtype))
    rows = (weight * student_q).astype(student_q.dtype)

    def transpose(q: jax.Array, k: jax.Array) -> jax.Array:
        """Σᵢ pᵢⱼ rowsᵢ: the derivative of attention with respect to its values."""
        attend = partial(
            kernels.dot_product_attention,
            q,
            k,
            implementation=implementation,
            blockwise_above=blockwise_above,
        )
        return jax.vjp(attend, student_k)[1](rows.astype(student_k.dtype))[0]

    grad_k = transpose(student_q, student_k) - transpose(teacher_q, teacher_k)
    return grad_q.astype(student_q.dtype), grad_k.astype(student_k.dtype), None, None


_cross_entropy.defvjp(_forward, _backward)


def mean_square(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Mean squared difference over all but the first axis: (B, …) → (B,) float32."""
    wide = jnp.promote_types(student.dtype, jnp.float32)
    difference = student.astype(wide) - jax.lax.stop_gradient(teacher).astype(wide)
    return jnp.square(difference).reshape(student.shape[0], -1).mean(axis=1)
