"""How alike two representations of the same things are, whatever their axes: CKA.

Kornblith et al., "Similarity of Neural Network Representations Revisited", arXiv 1905.00414;
without bias: Song et al., "Feature Selection via Dependence Maximization", JMLR 2012; by batches:
Nguyen et al., arXiv 2010.15327.
"""

import functools
from collections.abc import Iterable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.array_checks import require_equal, require_features
from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.models.cell_places import CellPlaces, places_or_even

Kind = Literal["linear", "unbiased", "rbf"]
_KINDS = get_args(Kind)
_BANDWIDTH = 0.5  # of the root of the median of squared distances: the kernel's sigma


def cka(x: ArrayLike, y: ArrayLike, kind: Kind = "linear") -> float:
    """CKA of x (n, p) and y (n, q), rows of the same n things; see `linear_cka`.

    linear: as published, biased. unbiased: the linear kernel by HSIC₁. rbf: biased, of Gaussian
    kernels, each with half the root of its median squared distance (between two of an even number,
    the lower) as its sigma. ValueError for another kind.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind: {kind!r} is none of {', '.join(_KINDS)}")
    if kind != "rbf":
        return float(linear_cka(x, y, unbiased=kind == "unbiased"))
    return float(cka_from_terms(_gaussian_terms(*_checked(x, y, 2))))


def linear_cka(x: jax.Array, y: jax.Array, unbiased: bool = False) -> jax.Array:
    """Linear CKA of x (n, p) and y (n, q), rows of the same n things → () float32, at most 1.

    1 for representations that differ by rotation and scale. Biased, as published first, it is far
    from 0 for unrelated features when n isn't much larger than p and q; unbiased it is 0 in the
    mean, and may be a little below. 0 where x or y doesn't vary. Memory: p², p·q and q², or n²
    where that is less. ValueError for fewer than 2 rows (unbiased: 4) and for values not finite.
    """
    return cka_from_terms(hsic_terms(x, y, unbiased, scaled=True))


def minibatch_cka(batches: Iterable[tuple[jax.Array, jax.Array]]) -> jax.Array:
    """Unbiased linear CKA of (x, y) that come in batches, at least 4 rows each → () float32.

    The three terms are averaged over the batches before they are divided. Batches count the same
    whatever their size, so leave out a short last one.
    """
    terms = [hsic_terms(x, y, unbiased=True) for x, y in batches]
    if not terms:
        raise ValueError("batches: got none, expected at least one (x, y)")
    return cka_from_terms(jnp.stack(terms).mean(0))


def scale_cka(small: jax.Array, large: jax.Array, unbiased: bool = True) -> jax.Array:
    """Linear CKA of the same images' feature maps from inputs of two sizes → () float32.

    small (B, h, w, C), large (B, H, W, C'), H ≥ h and W ≥ w; see `aligned_rows`.
    """
    return linear_cka(*aligned_rows(small, large), unbiased=unbiased)


def aligned_rows(
    small: jax.Array,
    large: jax.Array,
    small_places: CellPlaces | None = None,
    large_places: CellPlaces | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Feature maps (B, h, w, C) and (B, H, W, C') of two sizes as rows (B·h·w, C) and (B·h·w, C').

    The larger map is averaged down to the smaller grid (bilinear, antialiased); each cell of each
    image is one thing to compare. small_places, large_places: where cells lie, of patches that
    overlap; None = they share the image evenly. ValueError unless H ≥ h and W ≥ w.
    """
    small, large = given_array("small", small), given_array("large", large)
    require_features("small", small, "(B, h, w, C)")
    require_features("large", large, "(B, H, W, C)")
    require_equal("large", large.shape[0], small.shape[0], "small's B")
    if large.shape[1] < small.shape[1] or large.shape[2] < small.shape[2]:
        raise ValueError(f"large: its grid {large.shape[1:3]} is below small's {small.shape[1:3]}")
    here = places_or_even(small_places, small.shape[1:3])
    there = places_or_even(large_places, large.shape[1:3])
    rows, columns = (axis.weights(to) for axis, to in zip(there, here, strict=True))
    large = large.astype(jnp.float32)
    large = jnp.einsum("hH,wW,bHWc->bhwc", rows, columns, large, precision="highest")
    return small.reshape(-1, small.shape[-1]), large.reshape(-1, large.shape[-1])


def hsic_terms(
    x: jax.Array, y: jax.Array, unbiased: bool = False, scaled: bool = False
) -> jax.Array:
    """HSIC with the linear kernel of (x, y), (x, x) and (y, y) → (3,) float32.

    scaled: of features over their root mean square, so that no sum leaves float32; the ratio that
    CKA is doesn't change, but terms of batches can't be averaged any more.
    """
    return _terms(*_checked(x, y, 4 if unbiased else 2), unbiased, scaled)


def cka_from_terms(terms: jax.Array) -> jax.Array:
    """The ratio that CKA is, of terms (..., 3): 0 where one of the two doesn't vary."""
    cross, first, second = jnp.moveaxis(jnp.asarray(terms), -1, 0)
    varies = (first > 0) & (second > 0)
    # Roots before the product, which could leave float32.
    norm = jnp.sqrt(jnp.where(varies, first, 1.0)) * jnp.sqrt(jnp.where(varies, second, 1.0))
    return jnp.where(varies, cross / norm, 0.0)


def _checked(x: jax.Array, y: jax.Array, least: int) -> tuple[jax.Array, jax.Array]:
    x, y = given_array("x", x), given_array("y", y)
    require_features("x", x, "(n, p)")
    require_features("y", y, "(n, q)")
    require_equal("y", y.shape[0], x.shape[0], "x's n")
    if x.shape[0] < least:
        raise ValueError(f"x, y: expected at least {least} rows, got {x.shape[0]}")
    return x, y


@jax.jit
def _gaussian_terms(x: jax.Array, y: jax.Array) -> jax.Array:
    """The three terms of the centred Gaussian kernels, biased and without a common factor."""
    kernels = [_gaussian_kernel(centred(z, scaled=True)) for z in (x, y)]
    first, second = (k - k.mean(0) - k.mean(1)[:, None] + k.mean() for k in kernels)
    return jnp.stack([(first * second).sum(), jnp.square(first).sum(), jnp.square(second).sum()])


def _gaussian_kernel(x: jax.Array) -> jax.Array:
    """exp(-d²/2σ²) of the distances d between rows of x (n, p); all 1 where rows are alike."""
    products = jnp.matmul(x, x.T, precision="highest")
    squares = jnp.diagonal(products)
    distances = jnp.maximum(squares[:, None] + squares - 2 * products, 0.0)
    n = len(x)
    # Without the diagonal's zeros, which come first.
    median = jnp.sort(jnp.where(jnp.eye(n, dtype=bool), -1.0, distances).ravel())[n:]
    variance = _BANDWIDTH**2 * median[(len(median) - 1) // 2]
    return jnp.exp(-distances / (2 * jnp.where(variance > 0, variance, jnp.inf)))


@functools.partial(jax.jit, static_argnames=("unbiased", "scaled"))
def _terms(x: jax.Array, y: jax.Array, unbiased: bool, scaled: bool) -> jax.Array:
    x, y = centred(x, scaled), centred(y, scaled)
    hsic = _unbiased_hsic if unbiased else _biased_hsic
    return jnp.stack([hsic(x, y), hsic(x, x), hsic(y, y)])


def centred(x: jax.Array, scaled: bool = False) -> jax.Array:
    """x (n, p) less its mean row, float32; exactly 0 where it only differs by rounding.

    scaled: over its root mean square.
    """
    x = x.astype(jnp.float32)
    size = jnp.sqrt(jnp.square(x).mean())
    x = x - x.mean(0)
    spread = jnp.sqrt(jnp.square(x).mean())
    x = jnp.where(spread > 1e-6 * size, x, 0.0)
    return x / jnp.where(spread > 0, spread, 1.0) if scaled else x


def _biased_hsic(x: jax.Array, y: jax.Array) -> jax.Array:
    """Of centred rows: the product of their two (n, n) matrices of products, over (n - 1)²."""
    # A float: squares of many rows leave int32.
    return _product_of_kernels(x, y) / (x.shape[0] - 1.0) ** 2


def _unbiased_hsic(x: jax.Array, y: jax.Array) -> jax.Array:
    """HSIC₁ of centred rows, which is also that of the rows before.

    With K and L the matrices of products less their diagonals k and l: as rows are centred, the
    rows of K sum to -k, those of L to -l.
    """
    n = float(x.shape[0])
    k, l_ = jnp.square(x).sum(1), jnp.square(y).sum(1)
    return hsic_1(_product_of_kernels(x, y) - k @ l_, k.sum() * l_.sum(), k @ l_, n)


def hsic_1(product: jax.Array, totals: jax.Array, across: jax.Array, n: float) -> jax.Array:
    """Song's estimate without bias, of sums over two kernels (n, n) without their diagonals.

    product: of their entries' products; totals: the product of the sums of all entries; across: the
    product of the sums of rows, summed. All of one shape. Source: Song et al., JMLR 2012.
    """
    total = product + totals / ((n - 1) * (n - 2)) - 2 / (n - 2) * across
    return total / (n * (n - 3))


def _product_of_kernels(x: jax.Array, y: jax.Array) -> jax.Array:
    """The sum of the entries of x xᵀ times those of y yᵀ, by the smaller of the two ways."""
    if max(x.shape[1], y.shape[1]) <= x.shape[0]:
        return jnp.square(jnp.matmul(x.T, y, precision="highest")).sum()
    kernels = (jnp.matmul(z, z.T, precision="highest") for z in (x, y))
    return jnp.multiply(*kernels).sum()
