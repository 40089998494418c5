"""Each cell of a doubled grid from the cells around its parent: products, weights, weighted sums.

The four children of a cell (i, j), at (2i + a, 2j + b), share its window: the (2r + 1)² cells at
most r away, row by row, itself in the middle. Work and memory grow with cells times window; there
never is an array of parents × window × channels, in a gradient neither. The idea is the local
attention of NAF (2511.18452) and UPLiFT (2601.17950). Reverse-mode derivatives alone are defined.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

# Parents whose products are taken at once: fewer waste more of a matrix product, for a block's
# windows reach r cells beyond it; many waste more, for most of its pairs are no neighbours.
_BLOCK = 8


def combine(features: jax.Array, logits: jax.Array) -> jax.Array:
    """Features (B, h, w, C) and logits (B, 2h, 2w, K) → convex combinations (B, 2h, 2w, C).

    The weights are a softmax over the K = (2r + 1)² cells around the parent, of which only those
    inside the grid count. In float32 at least; the result has the features' dtype, float32 where
    that is one of whole numbers. ValueError for logits of another grid, and for a K that is no such
    square.
    """
    dtype = features.dtype if jnp.issubdtype(features.dtype, jnp.inexact) else jnp.float32
    return weighted_sum(features.astype(dtype), weights_inside(logits)).astype(dtype)


def weights_inside(logits: jax.Array) -> jax.Array:
    """Logits (B, 2h, 2w, K) → weights of the same shape, float32, that sum to 1: 0 outside."""
    batch, *fine, window = logits.shape
    h, w = _parents(fine, "logits")
    outside = ~_inside((h, w), _radius(window))[:, None, :, None]
    wide = _wide(logits).reshape(batch, h, 2, w, 2, window)
    return jax.nn.softmax(jnp.where(outside, -jnp.inf, wide)).reshape(logits.shape)


@jax.custom_vjp
def weighted_sum(features: jax.Array, weights: jax.Array) -> jax.Array:
    """Σ over the window of weights (B, 2h, 2w, K) · features (B, h, w, C) → (B, 2h, 2w, C).

    float32; cells outside count as 0.
    """
    return neighbour_sum(_wide(features), _wide(weights))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def products(queries: jax.Array, keys: jax.Array, radius: int) -> jax.Array:
    """Queries (B, 2h, 2w, D) times the keys (B, h, w, D) around the parent → (B, 2h, 2w, K).

    float32, not scaled; 0 for keys outside.
    """
    return neighbour_products(_wide(queries), _wide(keys), radius)


def squared_distances(radius: int) -> np.ndarray:
    """From the centre of child (a, b) to those of its neighbours, in parents' cells: (2, 2, K)."""
    steps = np.arange(-radius, radius + 1)
    apart = (steps - np.array([[-0.25], [0.25]])) ** 2  # (child, step), along one axis
    total = apart[:, None, :, None] + apart[None, :, None, :]
    return total.reshape(2, 2, -1).astype(np.float32)


def add_by_child(logits: jax.Array, bias: jax.Array) -> jax.Array:
    """Logits (B, 2h, 2w, K) plus one value a child and neighbour (2, 2, K)."""
    batch, height, width, window = logits.shape
    apart = logits.reshape(batch, height // 2, 2, width // 2, 2, window)
    return (apart + bias[:, None]).reshape(logits.shape)


# Both under their own names in a jaxpr, by which multiply_adds.py knows them.
@jax.jit
def neighbour_sum(features: jax.Array, weights: jax.Array) -> jax.Array:
    """`weighted_sum` without its derivative."""
    batch, h, w, channels = features.shape
    window = weights.shape[-1]
    _check_fine(weights, "weights", (batch, h, w))
    padded, weights = _padded(features, _radius(window)), _by_child(weights)
    total = jnp.zeros((batch, h, 2, w, 2, channels), features.dtype)
    for k, (row, column) in enumerate(_steps(_radius(window))):
        tap = padded[:, row : row + h, None, column : column + w, None]
        total += tap * weights[..., k, None]
    return total.reshape(batch, 2 * h, 2 * w, channels)


@functools.partial(jax.jit, static_argnums=2)
def neighbour_products(queries: jax.Array, keys: jax.Array, radius: int) -> jax.Array:
    """`products` without its derivative, by matrix products of blocks of parents in a row.

    A multiply and a sum over channels for each neighbour would do, five times as slowly on a CPU.
    """
    batch, h, w, channels = keys.shape
    _check_fine(queries, "queries", (batch, h, w))
    size, side = min(_BLOCK, w), 2 * radius + 1
    blocks = -(-w // size)
    beyond = ((0, 0), (0, 0), (0, blocks * size - w), (0, 0))
    padded = jnp.pad(_padded(keys, radius), beyond)
    reach = size + 2 * radius
    windows = jnp.stack([padded[:, :, i * size : i * size + reach] for i in range(blocks)], 2)
    apart = jnp.pad(_by_child(queries), ((0, 0), (0, 0), *beyond[1:], (0, 0)))
    apart = apart.reshape(batch, h, 2, blocks, size, 2, channels).transpose(0, 1, 3, 4, 2, 5, 6)
    found = []
    for row in range(side):
        near, exact = windows[:, row : row + h], jax.lax.Precision.HIGHEST
        pairs = jnp.einsum("bhupijd,bhund->bhupijn", apart, near, precision=exact)
        found.append(jnp.stack([pairs[:, :, :, p, ..., p : p + side] for p in range(size)], 3))
    whole = jnp.stack(found, -2).reshape(batch, h, blocks * size, 2, 2, side**2)
    return whole[:, :, :w].transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * h, 2 * w, side**2)


def _spread(children: jax.Array, weights: jax.Array) -> jax.Array:
    """What `weighted_sum` does, turned round: children (B, 2h, 2w, C) → parents (B, h, w, C)."""
    radius = _radius(weights.shape[-1])
    children, weights = (_padded(_by_child(x), radius, (1, 3)) for x in (children, weights))
    batch, height, _, width, _, channels = children.shape
    h, w = height - 2 * radius, width - 2 * radius
    total = jnp.zeros((batch, h, w, channels), children.dtype)
    for k, (row, column) in enumerate(_steps(radius)):
        # A cell is neighbour k of those whose own window it lies in at k, which is the other way.
        top, left = 2 * radius - row, 2 * radius - column
        near, weight = (x[:, top : top + h, :, left : left + w] for x in (children, weights))
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            total += near[:, :, a, :, b] * weight[:, :, a, :, b, k, None]
    return total


def _sum_forward(features: jax.Array, weights: jax.Array) -> tuple[jax.Array, tuple]:
    return weighted_sum(features, weights), (features, weights)


def _sum_backward(kept: tuple, wanted: jax.Array) -> tuple[jax.Array, jax.Array]:
    features, weights = kept
    to_features = _spread(wanted, _wide(weights)).astype(features.dtype)
    to_weights = products(wanted, features, _radius(weights.shape[-1])).astype(weights.dtype)
    return to_features, to_weights


def _products_forward(
    queries: jax.Array, keys: jax.Array, radius: int
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return products(queries, keys, radius), (queries, keys)


def _products_backward(
    radius: int, kept: tuple[jax.Array, jax.Array], wanted: jax.Array
) -> tuple[jax.Array, jax.Array]:
    queries, keys = kept
    to_queries = weighted_sum(keys, wanted).astype(queries.dtype)
    return to_queries, _spread(_wide(queries), wanted).astype(keys.dtype)


weighted_sum.defvjp(_sum_forward, _sum_backward)
products.defvjp(_products_forward, _products_backward)


def _steps(radius: int) -> list[tuple[int, int]]:
    """Where each neighbour begins in a map padded by the radius: (row, column)."""
    side = 2 * radius + 1
    return [divmod(k, side) for k in range(side**2)]


def _inside(grid: tuple[int, int], radius: int) -> np.ndarray:
    """Which neighbours of each cell lie inside the grid: (h, w, K) bool."""
    steps = np.arange(-radius, radius + 1)
    rows, columns = (
        (np.arange(n)[:, None] + steps >= 0) & (np.arange(n)[:, None] + steps < n) for n in grid
    )
    whole = rows[:, None, :, None] & columns[None, :, None, :]
    return whole.reshape(*grid, -1)


def _padded(x: jax.Array, radius: int, axes: tuple[int, int] = (1, 2)) -> jax.Array:
    widths = [(radius, radius) if axis in axes else (0, 0) for axis in range(x.ndim)]
    # Else XLA computes what is before the padding once more for each shifted view.
    return jax.lax.optimization_barrier(jnp.pad(x, widths))


def _by_child(x: jax.Array) -> jax.Array:
    """(B, 2h, 2w, N) → (B, h, 2, w, 2, N)."""
    batch, height, width, number = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, number)


def _radius(window: int) -> int:
    side = math.isqrt(window)
    if side**2 != window or side % 2 == 0:
        raise ValueError(f"logits: {window} neighbours are no (2·radius + 1)², such as 9 or 25")
    return side // 2


def _parents(fine: list[int], argument: str) -> tuple[int, int]:
    if any(n % 2 for n in fine):
        raise ValueError(f"{argument}: {fine[0]}×{fine[1]} cells are not twice a grid")
    return fine[0] // 2, fine[1] // 2


def _check_fine(x: jax.Array, argument: str, coarse: tuple[int, int, int]) -> None:
    batch, h, w = coarse
    if x.shape[:3] != (batch, 2 * h, 2 * w):
        raise ValueError(
            f"{argument}: got shape {tuple(x.shape)}, expected ({batch}, {2 * h}, {2 * w}, …): "
            f"twice a grid of {h}×{w} cells"
        )


def _wide(x: jax.Array) -> jax.Array:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
