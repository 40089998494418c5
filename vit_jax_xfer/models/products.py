"""Products of activations with weights: as matrices, or in a smaller type with float32 sums.

As matrices, because of more axes XLA's CPU compiler copies and transposes the slopes for a kernel's
gradient. In a smaller type, as mixed precision has it on accelerators (Micikevicius et al.,
1710.03740), one layer at a time: what stands around a product stays in its own type. XLA's CPU
compiler has kernels for processors with bfloat16 units (AMX, AVX512-BF16) for products of bfloat16
whose result is float32, and for these alone: it does neither a bfloat16 result nor `precision=`
there. Both measured in benchmarks/NOTES.md.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from vit_jax_xfer.models.devices import one_cpu

# How Flax's layers call it: (x, kernel, dimension_numbers, precision=None) → array.
DotGeneral = Callable[..., jax.Array]


def dot_general_in(product_dtype: Any) -> DotGeneral:
    """`dot_general=` of a Flax layer that multiplies in a type; None: in the layer's own."""
    if product_dtype is None:
        return matrix_product
    return functools.partial(_dot_general, dtype=jnp.dtype(product_dtype))


def product(x: jax.Array, kernel: jax.Array, product_dtype: Any = None) -> jax.Array:
    """x (…, C) times kernel (C, …N) → (…, …N) in x's type; None multiplies in that type too."""
    return dot_general_in(product_dtype)(x, kernel, (((x.ndim - 1,), (0,)), ((), ())))


def matrix_product(
    x: jax.Array,
    kernel: jax.Array,
    dimension_numbers: lax.DotDimensionNumbers,
    precision: Any = None,
    **fields: Any,
) -> jax.Array:
    """`lax.dot_general` of x's last axes with a kernel's first ones; on one CPU, of two matrices.

    Elsewhere both keep their axes: one that became a part of another couldn't be sharded, and a
    TPU, whose tiles pad tokens, would copy them.
    """
    lead, inputs, outputs = _sizes(x, kernel, dimension_numbers)
    if not one_cpu():
        return lax.dot_general(x, kernel, dimension_numbers, precision, **fields)
    rows, matrix = x.reshape(math.prod(lead), inputs), kernel.reshape(inputs, math.prod(outputs))
    out = lax.dot_general(rows, matrix, (((1,), (0,)), ((), ())), precision, **fields)
    return out.reshape(*lead, *outputs)


def _dot_general(
    x: jax.Array,
    kernel: jax.Array,
    dimension_numbers: lax.DotDimensionNumbers,
    precision: Any = None,
    *,
    dtype: jnp.dtype,
    **_: Any,
) -> jax.Array:
    """The same in a type."""
    lead, inputs, outputs = _sizes(x, kernel, dimension_numbers)
    return _product(x.reshape(*lead, inputs), kernel.reshape(inputs, *outputs), dtype)


def _sizes(
    x: jax.Array, kernel: jax.Array, dimension_numbers: lax.DotDimensionNumbers
) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """x's first axes, how many numbers are summed, and a kernel's last axes."""
    (taken, first), batched = dimension_numbers
    last = tuple(range(x.ndim - len(taken), x.ndim))
    if tuple(taken) != last or tuple(first) != tuple(range(len(taken))) or any(batched):
        raise ValueError(f"a layer's product is over x's last axes, not by {dimension_numbers}")
    inputs = math.prod(kernel.shape[: len(taken)])
    return x.shape[: last[0]], inputs, kernel.shape[len(taken) :]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _product(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype) -> jax.Array:
    return _forward(x, kernel, dtype)[0]


def _forward(x: jax.Array, kernel: jax.Array, dtype: jnp.dtype) -> tuple[jax.Array, Any]:
    """The product, and what its derivative needs: both factors as they were multiplied."""
    small, small_kernel = x.astype(dtype), kernel.astype(dtype)
    axes = ((x.ndim - 1,), (0,))
    out = _sum(small, small_kernel, axes).astype(x.dtype)
    # Arrays, since a residual that is a type is none.
    return out, (small, small_kernel, jnp.zeros((), x.dtype), jnp.zeros((), kernel.dtype))


def _backward(dtype: jnp.dtype, kept: Any, slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both gradients, by products of the same kind: autodiff's would mix the types."""
    x, kernel, of_x, of_kernel = kept
    small = slope.astype(dtype)
    lead = tuple(range(x.ndim - 1))
    outputs = tuple(range(len(lead), slope.ndim)), tuple(range(1, kernel.ndim))
    to_x = _sum(small, kernel, outputs).astype(of_x.dtype)
    return to_x, _sum(x, small, (lead, lead)).astype(of_kernel.dtype)


_product.defvjp(_forward, _backward)


def _sum(x: jax.Array, y: jax.Array, axes: tuple[tuple[int, ...], tuple[int, ...]]) -> jax.Array:
    """A product over axes of both, summed in float32."""
    return lax.dot_general(x, y, (axes, ((), ())), preferred_element_type=jnp.float32)
