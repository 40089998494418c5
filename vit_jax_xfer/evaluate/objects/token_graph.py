"""The graph of tokens that look alike, and the eigenvector that cuts it in two.

Tokens are joined by 1 where their cosine is above a threshold and by a small eps elsewhere. So the
graph is a bit for each pair and a constant, and up to thousands of tokens fit without the matrix.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.sparse.linalg import LinearOperator, eigsh

# Above, the dense solver is the slower one, over ten times at 784; 12,544 would take it 4 GB.
DENSE_TOKENS = 256
_ROWS = 512  # of the graph at a time when it is made
_UNPACKED_ROWS = 16  # at a time when it is multiplied: 1.6 MB of 12,544 tokens, for the cache


class TokenGraph(NamedTuple):
    """bits: (n, ⌈n/8⌉) uint8, rows of packbits, 1 = joined. degrees: (n,) float64. eps: float."""

    bits: np.ndarray
    degrees: np.ndarray
    eps: float


def token_graph(tokens: np.ndarray, tau: float, eps: float) -> TokenGraph:
    """The graph of tokens (n, C) whose cosine exceeds tau; a token of zeros has none that does."""
    tokens = np.asarray(tokens, np.float32)
    length = np.sqrt(np.square(tokens).sum(1, keepdims=True))
    tokens = tokens / np.maximum(length, 1e-12)
    n = len(tokens)
    bits = np.zeros((n, -(-n // 8)), np.uint8)
    # Both directions of a pair come from one product: rounded twice, they could differ at tau.
    for start in range(0, n, _ROWS):
        stop = min(start + _ROWS, n)
        block = tokens[start:stop] @ tokens[start:].T > tau
        square = np.tril(block[:, : stop - start])
        block[:, : stop - start] = square | square.T
        bits[start:stop, start // 8 :] = np.packbits(block, axis=1)
        below = np.packbits(block[:, stop - start :].T, axis=1)
        bits[stop:, start // 8 : start // 8 + below.shape[1]] = below
    joined = np.bitwise_count(bits).sum(1, dtype=np.int64)
    return TokenGraph(bits, joined + eps * (n - joined), eps)


def second_eigenpair(graph: TokenGraph, dense: bool | None = None) -> tuple[float, np.ndarray]:
    """The second smallest eigenvalue λ of (D - A) v = λ D v and its eigenvector v (n,) float64.

    vᵀ D v = 1; its sign is arbitrary. dense: LAPACK on the matrix, 8 n² bytes and more, or
    Lanczos (ARPACK) on products with the packed graph; None = by the number of tokens.
    """
    n = len(graph.degrees)
    if dense or (dense is None and n <= DENSE_TOKENS):
        weights = np.where(np.unpackbits(graph.bits, axis=1, count=n), 1.0, graph.eps)
        degrees = np.diag(graph.degrees)
        values, vectors = eigh(degrees - weights, degrees, subset_by_index=[1, 1])
        return float(values[0]), vectors[:, 0]
    root = np.sqrt(graph.degrees)
    first = root / np.linalg.norm(root)

    def multiply(vector: np.ndarray) -> np.ndarray:
        # D^-½ A D^-½, whose largest eigenvalue 1 has this known vector: moved to -1, the bottom.
        vector = vector.ravel()
        return _adjacent(graph, vector / root) / root - 2 * first * (first @ vector)

    operator = LinearOperator((n, n), matvec=multiply, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n)
    values, vectors = eigsh(operator, k=1, which="LA", v0=start)
    return 1 - float(values[0]), vectors[:, 0] / root


def _adjacent(graph: TokenGraph, vector: np.ndarray) -> np.ndarray:
    """A times a vector (n,): a few rows unpacked at a time."""
    n = len(vector)
    result, rows = np.empty(n), np.empty((_UNPACKED_ROWS, n))
    for start in range(0, n, _UNPACKED_ROWS):
        unpacked = np.unpackbits(graph.bits[start : start + _UNPACKED_ROWS], axis=1, count=n)
        rows[: len(unpacked)] = unpacked
        result[start : start + len(unpacked)] = rows[: len(unpacked)] @ vector
    return (1 - graph.eps) * result + graph.eps * vector.sum()
