"""One kernel on one shape: how far from float64, how long, and how much memory it takes.

Errors are the largest of all values over the largest wanted value, for each result: attention's
output or the loss, then gradients. Time and memory are those of value and gradients together.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.card import exact_attention

KERNELS = ("auto", "plain", "blockwise", "cudnn", "splash", "tokamax")
# Forms of the distillation's loss: maps built; rows, as `auto` goes; its own kernel, as it is and
# with tiles throughout; or attention's kernels, which make it from fused attention.
LOSSES = ("rows", "fused", "fused tiles", "maps", "cudnn", "blockwise", "plain", "splash")
LOSSES += ("tokamax",)
# How far a result may be from float64: float32 with its products in float32 throughout.
TOLERANCES = {"float32": 1e-4, "bfloat16": 3e-2}
CHECKED = 2  # images that are compared with float64, of those that are timed


@dataclasses.dataclass(frozen=True)
class KernelCase:
    """part: attention | loss. form: of KERNELS or LOSSES."""

    part: str
    form: str
    dtype: str
    tokens: int
    dim: int
    heads: int
    batch: int

    @property
    def fields(self) -> dict[str, Any]:
        """What a row says of it."""
        return dataclasses.asdict(self)


def kernel_row(case: KernelCase, calls: int, interpret: bool = False) -> dict[str, Any]:
    """The figures of a case, on this process's device.

    calls: timed ones. interpret: Pallas' kernels as plain programs, where they have no device.
    """
    import jax

    from vit_jax_xfer.models.attention import fused_loss, splash

    splash.INTERPRET = fused_loss.INTERPRET = interpret
    usual = fused_loss.ONE_PASS
    if case.form == "fused tiles":
        fused_loss.ONE_PASS = dict.fromkeys(usual, 0)
    try:
        with jax.default_matmul_precision("highest" if case.dtype == "float32" else "default"):
            return _measured(case, calls)
    finally:
        fused_loss.ONE_PASS = usual


def _measured(case: KernelCase, calls: int) -> dict[str, Any]:
    import jax

    number = 4 if case.part == "attention" else 5
    arrays = _draw(case, number)
    function = _attention(case.form) if case.part == "attention" else _loss(case.form)
    begin = time.perf_counter()
    program = jax.jit(function).lower(*arrays).compile()
    row: dict[str, Any] = {"compile_s": round(time.perf_counter() - begin, 1)}
    if analysis := program.memory_analysis():
        row["temporary MiB"] = round(analysis.temp_size_in_bytes / 2**20, 1)
    found = jax.block_until_ready(program(*arrays))
    row |= _errors(case, arrays, found)
    times = []
    for _ in range(calls):
        begin = time.perf_counter()
        jax.block_until_ready(program(*arrays))
        times.append(1e3 * (time.perf_counter() - begin))
    row["ms"], row["min_ms"] = (float(f"{x:.3g}") for x in (statistics.median(times), min(times)))
    if case.part == "attention":
        row["took"] = _chosen(case, arrays)
    return row


def _draw(case: KernelCase, number: int) -> list[Any]:
    """q, k, v and a cotangent, or q, k, q, k and a weight for each image; scores of a few units."""
    import jax.numpy as jnp

    random = np.random.default_rng(0)
    shape = (case.batch, case.tokens, case.heads, case.dim)
    arrays = [1.5 * random.standard_normal(shape, np.float32) for _ in range(4)]
    found = [jnp.asarray(x, case.dtype) for x in arrays]
    if number > 4:
        found.append(jnp.asarray(random.standard_normal(case.batch), jnp.float32))
    return found


def _attention(kernel: str) -> Callable[..., Any]:
    import jax

    from vit_jax_xfer.models.attention.kernels import dot_product_attention

    def run(q: Any, k: Any, v: Any, cotangent: Any) -> tuple[Any, ...]:
        out, back = jax.vjp(partial(dot_product_attention, implementation=kernel), q, k, v)
        return out, *back(cotangent)

    return run


def _loss(form: str) -> Callable[..., Any]:
    import jax

    from vit_jax_xfer.transfer.losses import map_cross_entropy
    from vit_jax_xfer.transfer.map_free import cross_entropy

    def distance(*tensors: Any) -> Any:
        if form == "maps":
            return map_cross_entropy(*tensors).mean(axis=(1, 2))
        if form.startswith("fused"):
            return cross_entropy(*tensors, loss_kernel="fused")
        return cross_entropy(*tensors, "auto" if form == "rows" else form)

    def run(q: Any, k: Any, their_q: Any, their_k: Any, cotangent: Any) -> tuple[Any, ...]:
        loss, back = jax.vjp(lambda q, k: distance(q, k, their_q, their_k), q, k)
        return loss, *back(cotangent)

    return run


def _errors(case: KernelCase, arrays: list[Any], found: tuple[Any, ...]) -> dict[str, Any]:
    exact = exact_attention.attention if case.part == "attention" else exact_attention.map_distance
    wanted = exact(*(_wide(x) for x in arrays))
    errors = [
        float(np.abs(_wide(got) - want).max() / np.abs(want).max())
        for got, want in zip(found, wanted, strict=True)
    ]
    agrees = all(error <= TOLERANCES[case.dtype] for error in errors)  # not of NaN
    return {"errors": [float(f"{x:.1e}") for x in errors], "agrees": agrees}


def _wide(x: Any) -> np.ndarray:
    """The first images in float64."""
    return np.asarray(x[:CHECKED].astype("float32"), np.float64)


def _chosen(case: KernelCase, arrays: list[Any]) -> str:
    from vit_jax_xfer.models.attention.kernel_choice import choose

    return choose(*arrays[:3], case.form, None)
