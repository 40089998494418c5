"""The machine's own rate of matrix products: a network's products alone, in JAX and in PyTorch.

Each distinct product of the network is timed by itself, at its own shape, and counts as often as
the network has it, so that the sum is what the network would take if it were nothing but products
at the rate that the framework reaches on this machine. A step of training has three forms of each:
forwards, to the inputs, to the weights. What else a step does (norms, activations, softmax, the
update) has no time here: no step reaches 100 %, and how far it is from it says what that costs.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.product_shapes import Product
from vit_jax_xfer.compiler import compiled

# How often a step has each form, by what it does: a teacher adds a forward pass.
FORWARD, TO_INPUTS, TO_WEIGHTS = range(3)
FORMS: dict[str, tuple[int, int, int]] = {
    "inference": (1, 0, 0),
    "scratch": (1, 1, 1),
    "copy": (2, 1, 1),
    "distill": (2, 1, 1),
}
_LEAST_S = 4e-3  # of a product's measurement: shorter ones run several times
_MOST = 50

# Computes a product so many times, and waits.
Run = Callable[[int], Any]


class ProductRate:
    """A network's products, timed by `seconds`. A contender of `rounds.alternate`."""

    def __init__(
        self, products: Mapping[Product, int], what: str, framework: str, dtype: str = "float32"
    ) -> None:
        """what: of FORMS. dtype: float32 | bfloat16, whose sums are float32."""
        make = {"jax": _jax_runs, "torch": _torch_runs}[framework]
        forms = [(form, often) for form, often in enumerate(FORMS[what]) if often]
        self._runs: list[tuple[Run, int, int]] = []
        for product, times in products.items():
            runs = make(product, dtype, [form for form, _ in forms])
            for run, (_, often) in zip(runs, forms, strict=True):
                run(1)
                self._runs.append((run, often * times, repeats(run)))
        self.gflops = 2e-9 * sum(
            often * times * product.multiply_adds
            for product, times in products.items()
            for _, often in forms
        )

    def __call__(self) -> None:
        """Every product, once."""
        for run, _, _ in self._runs:
            run(1)

    def seconds(self) -> float:
        """What all products take: each form's own time, as often as the step has it."""
        total = 0.0
        for run, often, number in self._runs:
            run(1)
            begin = time.perf_counter()
            run(number)
            total += often * (time.perf_counter() - begin) / number
        return total


def repeats(run: Run) -> int:
    """How often a product is to run for its time to be told."""
    begin = time.perf_counter()
    run(1)
    return min(_MOST, 1 + int(_LEAST_S / max(time.perf_counter() - begin, 1e-9)))


def _arrays(product: Product) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs (…, rows, inner), weights (…, inner, columns), gradients (…, rows, columns)."""
    random, lead = np.random.default_rng(0), (product.batch,) if product.batch > 1 else ()
    shapes = (
        (*lead, product.rows, product.inner),
        (*lead, product.inner, product.columns),
        (*lead, product.rows, product.columns),
    )
    x, w, g = (random.standard_normal(shape, np.float32) for shape in shapes)
    return x, w, g


def _jax_runs(product: Product, dtype: str, forms: list[int]) -> list[Run]:
    x, w, g = (jnp.asarray(array, dtype) for array in _arrays(product))
    lead = tuple(range(x.ndim - 2))
    rows, columns = x.ndim - 2, x.ndim - 1
    # (left, its contracted axis, right, its contracted axis)
    operands = {
        FORWARD: (x, columns, w, rows),
        TO_INPUTS: (g, columns, w, columns),
        TO_WEIGHTS: (x, rows, g, rows),
    }

    def one(form: int) -> Run:
        left, taken, right, taken_too = operands[form]
        numbers = ((taken,), (taken_too,)), (lead, lead)

        def product_of(left: jax.Array, right: jax.Array) -> jax.Array:
            return lax.dot_general(left, right, numbers, preferred_element_type=jnp.float32)

        multiply = compiled(jax.jit(product_of).trace(left, right))
        return lambda times: jax.block_until_ready([multiply(left, right) for _ in range(times)])

    return [one(form) for form in forms]


def _torch_runs(product: Product, dtype: str, forms: list[int]) -> list[Run]:
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, w, g = (
        torch.from_numpy(array).to(device, getattr(torch, dtype)) for array in _arrays(product)
    )
    w = w.mT.contiguous()  # as nn.Linear keeps it
    operands = {FORWARD: (x, w.mT), TO_INPUTS: (g, w), TO_WEIGHTS: (g.mT, x)}

    def one(form: int) -> Run:
        left, right = operands[form]

        def run(times: int) -> None:
            with torch.inference_mode():
                for _ in range(times):
                    torch.matmul(left, right)
            if device == "cuda":
                torch.cuda.synchronize()

        return run

    return [one(form) for form in forms]
