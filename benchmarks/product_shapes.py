"""Which products of matrices a network's forward pass is made of."""

import math
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import jax.extend.core as jex

from vit_jax_xfer.compiler import programs_inside
from vit_jax_xfer.models.multiply_adds import STANDS_FOR, forward_program, times_run
from vit_jax_xfer.models.protocol import Network


class Product(NamedTuple):
    """`batch` products of (rows, inner) with (inner, columns)."""

    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def multiply_adds(self) -> int:
        """Of all of them."""
        return self.batch * self.rows * self.inner * self.columns


def products(model: Network, image_size: int | None = None, batch: int = 1) -> Counter[Product]:
    """{product: how often} of a forward pass on `batch` images.

    A convolution is the product of its windows with its kernel. One of each channel by itself is
    none, however it is written, and isn't in here.
    """
    return products_in(forward_program(model, image_size, batch))


def products_in(program: jex.Jaxpr) -> Counter[Product]:
    """The same of any program. ValueError for products in a loop whose length isn't known."""
    found: Counter[Product] = Counter()
    for product, times in _of(program):
        found[product] += times
    return found


def _of(program: jex.Jaxpr) -> Iterator[tuple[Product, int]]:
    for equation in program.eqns:
        name, params = equation.primitive.name, equation.params
        if name in ("jit", "pjit") and params["name"] in STANDS_FOR:
            continue
        if name == "dot_general":
            yield _dot(equation), 1
        elif name == "conv_general_dilated":
            if params["feature_group_count"] == 1:
                yield _convolution(equation), 1
        else:
            inside = [list(_of(inner)) for inner in programs_inside(params)]
            if name == "while" and any(inside):
                raise ValueError("a while loop with products in it: nobody knows its length")
            if name == "cond":
                inside = [max(inside, key=_work)]
            times = times_run(name, params)
            yield from ((one, times * often) for part in inside for one, often in part)


def _work(found: list[tuple[Product, int]]) -> int:
    return sum(often * one.multiply_adds for one, often in found)


def _dot(equation: jex.JaxprEqn) -> Product:
    (contracted, _), (batched, _) = equation.params["dimension_numbers"]
    left, right = (variable.aval.shape for variable in equation.invars)
    batch = math.prod(left[axis] for axis in batched)
    inner = math.prod(left[axis] for axis in contracted)
    rows, columns = (math.prod(side) // max(batch * inner, 1) for side in (left, right))
    return Product(batch, rows, inner, columns)


def _convolution(equation: jex.JaxprEqn) -> Product:
    """Of windows with the kernel; of a transposed one, of pixels with all that they spread."""
    image, kernel = (variable.aval for variable in equation.invars)
    numbers = equation.params["dimension_numbers"]
    outputs, channels = equation.outvars[0].aval, kernel.shape[numbers.rhs_spec[0]]
    if all(dilation == 1 for dilation in equation.params["lhs_dilation"]):
        return Product(1, outputs.size // channels, kernel.size // channels, channels)
    inputs = kernel.shape[numbers.rhs_spec[1]]
    return Product(1, image.size // inputs, inputs, kernel.size // inputs)
