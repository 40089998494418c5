"""How far a student's attention is from its teacher's, per query and head.

q, k (B, T, H, d) come before the scale; each side's scale is 1/√d of its own head size. A bias
(H, T, T) is part of a side's scores. groups: the teacher's heads fall into this many groups in
their order, and the student's heads, as many (or any number for 1), learn each group's mean map;
None = head by head. The teacher's tensors are constants: no gradient reaches them.
"""

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.transfer.averaging import Average, averaged, mean_maps

Bias = jax.Array | None


def map_cross_entropy(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    student_bias: Bias = None,
    teacher_bias: Bias = None,
    groups: int | None = None,
    average: Average = "none",
    counted: jax.Array | None = None,
) -> jax.Array:
    """−Σⱼ pᵀᵢⱼ log pˢᵢⱼ per row, (B, H, T) float32, from the maps themselves (2411.09702).

    average, counted: see averaging.py.
    """
    teacher = kernels.attention_map(*jax.lax.stop_gradient((teacher_q, teacher_k, teacher_bias)))
    scores = kernels.attention_scores(student_q, student_k, student_bias)
    student = jax.nn.log_softmax(scores, axis=-1)
    teacher = averaged(mean_maps(teacher, groups), average, counted)
    return -(teacher * student).sum(axis=-1)


def mean_square(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Mean squared difference over all but the first axis: (B, …) → (B,) float32."""
    wide = jnp.promote_types(student.dtype, jnp.float32)
    difference = student.astype(wide) - jax.lax.stop_gradient(teacher).astype(wide)
    return jnp.square(difference).reshape(student.shape[0], -1).mean(axis=1)
