"""The cross-entropy between attention maps and its gradients as Pallas kernels, on GPUs and TPUs.

Nothing of tokens × tokens leaves the chip. A tile holds the scores of some keys, one below the
other, with some queries, side by side, of student and teacher alike: with s and t their scores,
CEᵢ = logΣexp(sᵢ) − Σⱼ pᵀᵢⱼ sᵢⱼ needs sums down a tile's columns alone, and ∂CEᵢ/∂sᵢⱼ = pˢᵢⱼ − pᵀᵢⱼ
both sides' statistics of a row. Where all of an image's keys make one tile, one kernel makes value
and gradients from four products; else sums go tile by tile with a running maximum (online softmax,
1805.02867), and a tile's scores are made three times.

GPUs: by Triton, with sides of tiles that are powers of two, heads filled up to one with zeros.
TPUs: by Mosaic; a program holds a head's keys, or queries, in the core's own memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

# Runs the kernels as plain programs, very slowly, where there is neither: set by tests.
INTERPRET = False
# Bytes of a side's keys up to which they make one tile. On a GPU twice as many ask for more shared
# memory than a Hopper has, by Triton 3.9.
ONE_PASS = {"gpu": 2**15, "tpu": 2**19}
# Queries and keys of a tile where they don't, and queries where they do.
TILE = {"gpu": (64, 64), "tpu": (256, 512)}
ONE_PASS_QUERIES = {"gpu": 32, "tpu": 128}
_LOWEST = -1e30  # of a key that is none; an infinity times a weight of zero would be no number

Arrays = tuple[jax.Array, ...]
Refs = Any


class Tiling(NamedTuple):
    """How (T, T) scores are cut: the tokens, a tile's queries and keys, and both filled up."""

    tokens: int
    queries: int
    keys: int
    all_queries: int
    all_keys: int

    def scores(self, q: jax.Array, k: jax.Array, scale: float, first: Any) -> jax.Array:
        """A tile's scores (keys, queries) float32 of one side; first: number of its first key."""
        found = scale * _product(k, q, 1, 1)
        if self.all_keys == self.tokens:
            return found
        number = first + jax.lax.broadcasted_iota(jnp.int32, (self.keys, 1), 0)
        return jnp.where(number < self.tokens, found, _LOWEST)


def tiling(tokens: int, row_bytes: int, backend: str) -> Tiling:
    """The tiles for so many tokens. row_bytes: of a key, the wider side's; backend: gpu | tpu."""
    queries, keys = TILE[backend]
    every = _power_of_two(tokens) if backend == "gpu" else _filled(tokens, 128)
    if every * row_bytes <= ONE_PASS[backend]:
        queries, keys = ONE_PASS_QUERIES[backend], every
    return Tiling(tokens, queries, keys, _filled(tokens, queries), _filled(tokens, keys))


def rows_and_gradients(
    student_q: jax.Array,
    student_k: jax.Array,
    teacher_q: jax.Array,
    teacher_k: jax.Array,
    gradients: bool,
    backend: str,
) -> Arrays:
    """Each row's cross-entropy (B, H, T) float32 and, with gradients, those of the rows' sum.

    q, k (B, T, H, d) in bfloat16 or float32, queries and keys of a side of one type; the teacher's
    heads as many, of any size. Gradients are by the student's q and k, in their shapes and type.
    backend: tpu, or gpu, which is also what is interpreted. Has no derivative of its own:
    transfer/map_free.py gives it one.
    """
    batch, tokens, heads, dim = student_q.shape
    row_bytes = max(_wide(x, backend) * x.dtype.itemsize for x in (student_k, teacher_k))
    cut = tiling(tokens, row_bytes, backend)

    def flat(x: jax.Array, length: int) -> jax.Array:
        """(B, T, H, d) → (B · H, length, d), filled up with zeros."""
        x = jnp.swapaxes(x, 1, 2).reshape(batch * heads, tokens, -1)
        return jnp.pad(x, ((0, 0), (0, length - tokens), (0, _wide(x, backend) - x.shape[-1])))

    flats = (flat(student_q, cut.all_queries), flat(student_k, cut.all_keys))
    flats += (flat(teacher_q, cut.all_queries), flat(teacher_k, cut.all_keys))
    run = _in_one_pass if gradients and cut.keys == cut.all_keys else _by_tiles
    scales = student_q.shape[-1] ** -0.5, teacher_q.shape[-1] ** -0.5
    rows, *found = run(flats, cut, scales, gradients, backend)
    found = (x.reshape(batch, heads, *x.shape[1:])[:, :, :tokens, :dim] for x in found)
    rows = rows.reshape(batch, heads, -1)[:, :, :tokens]
    return (rows, *(jnp.swapaxes(x, 1, 2) for x in found))


def _in_one_pass(
    flats: Arrays, cut: Tiling, scales: tuple[float, float], gradients: bool, backend: str
) -> Arrays:
    """Rows and both gradients, by a program for each head of each image."""
    student_q, student_k = flats[:2]
    row = jax.ShapeDtypeStruct((len(student_q), 1, cut.all_queries), jnp.float32)
    return _call(backend, 8)(
        partial(_one_pass_kernel, cut=cut, scales=scales),
        grid=(len(student_q), 1),
        in_specs=[_spec(x) for x in flats],
        out_specs=[_spec(row), _spec(student_q), _spec(student_k)],
        out_shape=[row, student_q, student_k],
    )(*flats)


def _by_tiles(
    flats: Arrays, cut: Tiling, scales: tuple[float, float], gradients: bool, backend: str
) -> Arrays:
    """Rows, and with gradients both: a program for each block of queries, then for each of keys."""
    student_q, student_k, teacher_q, teacher_k = flats
    row = jax.ShapeDtypeStruct((len(student_q), 1, cut.all_queries), jnp.float32)
    row_block = pl.BlockSpec((None, 1, cut.queries), lambda b, i: (b, 0, i))
    # Fewer would not hold the sums of wide rows in their registers.
    warps = 4 if student_k.shape[-1] * student_k.dtype.itemsize <= 128 else 8
    own_q, their_q = (_spec(x, cut.queries) for x in (student_q, teacher_q))
    rows, *found = _call(backend, warps)(
        partial(_queries_kernel, cut=cut, scales=scales),
        grid=(len(student_q), cut.all_queries // cut.queries),
        in_specs=[own_q, _spec(student_k), their_q, _spec(teacher_k)],
        out_specs=[row_block] * 3 + [own_q] * gradients,
        out_shape=[row] * 3 + [student_q] * gradients,
    )(*flats)
    if not gradients:
        return (rows,)
    own_k, their_k = (_spec(x, cut.keys) for x in (student_k, teacher_k))
    own, theirs, grad_q = found
    grad_k = _call(backend, warps)(
        partial(_keys_kernel, cut=cut, scales=scales),
        grid=(len(student_q), cut.all_keys // cut.keys),
        in_specs=[_spec(student_q), own_k, _spec(teacher_q), their_k, _spec(row), _spec(row)],
        out_specs=own_k,
        out_shape=student_k,
    )(*flats, own, theirs)
    return rows, grad_q, grad_k


def _one_pass_kernel(
    student_q: Refs,
    student_k: Refs,
    teacher_q: Refs,
    teacher_k: Refs,
    rows: Refs,
    grad_q: Refs,
    grad_k: Refs,
    *,
    cut: Tiling,
    scales: tuple[float, float],
) -> None:
    """A head's rows (1, T) and gradients (T, d), block after block of queries."""
    own_k, their_k = student_k[...], teacher_k[...]

    def step(i: Any, total: jax.Array) -> jax.Array:
        at = _slice(i, cut.queries)
        own_q = student_q[at, :]
        scores = cut.scores(own_q, own_k, scales[0], 0)
        theirs = cut.scores(teacher_q[at, :], their_k, scales[1], 0)
        theirs = jnp.exp(theirs - theirs.max(axis=0, keepdims=True))
        theirs = theirs / theirs.sum(axis=0, keepdims=True)
        highest = scores.max(axis=0, keepdims=True)
        weights = jnp.exp(scores - highest)
        sum_of_weights = weights.sum(axis=0, keepdims=True)
        expected = (theirs * scores).sum(axis=0, keepdims=True)
        rows[:, at] = highest + jnp.log(sum_of_weights) - expected
        # Rows of padding are alike on both sides, so that they add nothing.
        difference = (weights / sum_of_weights - theirs).astype(own_q.dtype)
        grad_q[at, :] = (scales[0] * _product(difference, own_k, 0, 0)).astype(grad_q.dtype)
        return total + _product(difference, own_q, 1, 0)

    zeros = jnp.zeros(grad_k.shape, jnp.float32)
    total = jax.lax.fori_loop(0, cut.all_queries // cut.queries, step, zeros)
    grad_k[...] = (scales[0] * total).astype(grad_k.dtype)


def _queries_kernel(
    student_q: Refs,
    student_k: Refs,
    teacher_q: Refs,
    teacher_k: Refs,
    rows: Refs,
    own_logsumexp: Refs,
    their_logsumexp: Refs,
    *grad_q: Refs,
    cut: Tiling,
    scales: tuple[float, float],
) -> None:
    """The rows of a block of queries with their statistics, (1, queries), and its gradient."""
    own_q, their_q = student_q[...], teacher_q[...]

    def tiles(i: Any) -> Arrays:
        """Both sides' scores with a block of keys, and the student's keys."""
        at = _slice(i, cut.keys)
        own_k, first = student_k[at, :], i * cut.keys
        own = cut.scores(own_q, own_k, scales[0], first)
        return own, cut.scores(their_q, teacher_k[at, :], scales[1], first), own_k

    def statistics(i: Any, before: Arrays) -> Arrays:
        highest, total, their_highest, their_total, expected = before
        own, theirs, _ = tiles(i)
        now = jnp.maximum(highest, own.max(axis=0, keepdims=True))
        total = total * jnp.exp(highest - now) + jnp.exp(own - now).sum(axis=0, keepdims=True)
        their_now = jnp.maximum(their_highest, theirs.max(axis=0, keepdims=True))
        keep = jnp.exp(their_highest - their_now)
        weights = jnp.exp(theirs - their_now)
        their_total = their_total * keep + weights.sum(axis=0, keepdims=True)
        expected = expected * keep + (weights * own).sum(axis=0, keepdims=True)
        return now, total, their_now, their_total, expected

    number = cut.all_keys // cut.keys
    zeros = jnp.zeros(rows.shape, jnp.float32)
    lowest = jnp.full(rows.shape, _LOWEST, jnp.float32)
    found = jax.lax.fori_loop(0, number, statistics, (lowest, zeros, lowest, zeros, zeros))
    highest, total, their_highest, their_total, expected = found
    own_sum, their_sum = highest + jnp.log(total), their_highest + jnp.log(their_total)
    rows[...] = own_sum - expected / their_total
    own_logsumexp[...], their_logsumexp[...] = own_sum, their_sum
    if not grad_q:
        return

    def gradient(i: Any, total: jax.Array) -> jax.Array:
        own, theirs, own_k = tiles(i)
        difference = jnp.exp(own - own_sum) - jnp.exp(theirs - their_sum)
        return total + _product(difference.astype(own_k.dtype), own_k, 0, 0)

    total = jax.lax.fori_loop(0, number, gradient, jnp.zeros(own_q.shape, jnp.float32))
    grad_q[0][...] = (scales[0] * total).astype(own_q.dtype)


def _keys_kernel(
    student_q: Refs,
    student_k: Refs,
    teacher_q: Refs,
    teacher_k: Refs,
    own_logsumexp: Refs,
    their_logsumexp: Refs,
    grad_k: Refs,
    *,
    cut: Tiling,
    scales: tuple[float, float],
) -> None:
    """The gradient by a block of keys, (keys, d), from the rows' statistics (1, T)."""
    own_k, their_k = student_k[...], teacher_k[...]
    first = pl.program_id(1) * cut.keys

    def step(i: Any, total: jax.Array) -> jax.Array:
        at = _slice(i, cut.queries)
        own_q = student_q[at, :]
        own = cut.scores(own_q, own_k, scales[0], first)
        theirs = cut.scores(teacher_q[at, :], their_k, scales[1], first)
        difference = jnp.exp(own - own_logsumexp[:, at]) - jnp.exp(theirs - their_logsumexp[:, at])
        return total + _product(difference.astype(own_q.dtype), own_q, 1, 0)

    zeros = jnp.zeros(own_k.shape, jnp.float32)
    total = jax.lax.fori_loop(0, cut.all_queries // cut.queries, step, zeros)
    grad_k[...] = (scales[0] * total).astype(own_k.dtype)


def _product(left: jax.Array, right: jax.Array, left_axis: int, right_axis: int) -> jax.Array:
    """The product over one axis of each, summed in float32."""
    # A precision that is set is of float32; a TPU's unit has none for narrower types.
    precision = None if left.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    dimensions = (((left_axis,), (right_axis,)), ((), ()))
    return jax.lax.dot_general(
        left, right, dimensions, precision=precision, preferred_element_type=jnp.float32
    )


def _slice(i: Any, size: int) -> Any:
    return pl.ds(pl.multiple_of(i * size, size), size)


def _spec(x: Any, rows: int | None = None) -> pl.BlockSpec:
    """Of (heads, T, d) one head, all of it or the program's own block of so many rows."""
    if rows is None:
        return pl.BlockSpec((None, *x.shape[1:]), lambda b, i: (b, 0, 0))
    return pl.BlockSpec((None, rows, x.shape[2]), lambda b, i: (b, i, 0))


def _call(backend: str, warps: int) -> Callable[..., Any]:
    """`pl.pallas_call` with what a backend's compiler is told. warps: of a program on a GPU."""
    if INTERPRET:
        return partial(pl.pallas_call, interpret=True)
    if backend == "tpu":
        from jax.experimental.pallas import tpu

        parallel = tpu.CompilerParams(dimension_semantics=("parallel", "parallel"))
        return partial(pl.pallas_call, compiler_params=parallel)
    from jax.experimental.pallas import triton  # else GPUs of NVIDIA would take another compiler

    how = triton.CompilerParams(num_warps=warps, num_stages=2)
    return partial(pl.pallas_call, compiler_params=how)


def _wide(x: jax.Array, backend: str) -> int:
    """A head's size in the kernel."""
    return _power_of_two(x.shape[-1]) if backend == "gpu" else x.shape[-1]


def _filled(tokens: int, block: int) -> int:
    return -(-tokens // block) * block


def _power_of_two(size: int) -> int:
    """The next one, at least 16: the smallest side of a product on a GPU."""
    return max(16, 1 << (size - 1).bit_length())
