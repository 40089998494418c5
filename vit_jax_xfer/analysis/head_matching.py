"""How far the heads of two networks are apart, and which head of one is which of the other.

Lin 1991 (Jensen-Shannon divergence); 2411.09702 compares teachers' and students' maps by it, with
heads matched in several ways. Those differ: a mean over images before matching gives one matching
for all of them, matching image by image is never larger, and the nearest need not be one to one.
"""

import math
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from vit_jax_xfer.arguments.array_checks import require_equal, require_features, require_maps
from vit_jax_xfer.arguments.given_arrays import given_array, host_array
from vit_jax_xfer.explain.attention_maps import jensen_shannon

Matching = Literal["identity", "hungarian", "per_image", "nearest"]
MATCHINGS: tuple[str, ...] = get_args(Matching)


class MatchedHeads(NamedTuple):
    """divergence: the mean over matched heads, in nats. heads: the second network's for each of the
    first's, (H,) int32, or for each image (B, H)."""

    divergence: float
    heads: jax.Array


def head_divergence(p: ArrayLike, q: ArrayLike) -> jax.Array:
    """Jensen-Shannon divergence of every pair of heads: (B, H, T, T), (B, H', T, T) → (H, H').

    In nats, from 0 (equal) to log 2 (disjoint): the mean over images and queries. Rows are
    distributions. Pass `maps[:, :, :1]` for the class token's query alone.
    """
    return image_divergence(p, q).mean(0)


def image_divergence(p: ArrayLike, q: ArrayLike) -> jax.Array:
    """The same for each image: (B, H, H') float32."""
    p, q = given_array("p", p), given_array("q", q)
    require_features("p", p, "(B, H, T, T)")
    require_features("q", q, "(B, H, T, T)")
    require_equal("q", (q.shape[0], *q.shape[2:]), (p.shape[0], *p.shape[2:]), "p (B, T, T)")
    require_maps("p", p)
    require_maps("q", q)
    return _image_divergence(p, q)


def match_heads(cost: ArrayLike) -> jax.Array:
    """The one-to-one matching of least cost (H, H') → (H,) int32: the column of each row.

    By the Hungarian algorithm, on the host. ValueError unless H ≤ H' and all is finite.
    """
    return jnp.asarray(_assigned(cost), jnp.int32)


def _assigned(cost: ArrayLike) -> np.ndarray:
    """`match_heads` on the host."""
    from scipy.optimize import linear_sum_assignment

    cost = host_array("cost", cost, np.float64)
    if cost.ndim != 2 or not cost.size or cost.shape[0] > cost.shape[1]:
        raise ValueError(f"cost: expected (H, H') with H not above H', got {cost.shape}")
    if not np.isfinite(cost).all():
        raise ValueError("cost: some values are NaN or infinite; expected none")
    return linear_sum_assignment(cost)[1]


def matched_divergence(cost: ArrayLike, how: Matching = "hungarian") -> MatchedHeads:
    """How far matched heads are apart, of `image_divergence` (B, H, H').

    | how         | the second network's head for each of the first's                            |
    |-------------|------------------------------------------------------------------------------|
    | `identity`  | that of the same number; H = H'                                              |
    | `hungarian` | one to one, of least mean over images: one matching for all                  |
    | `per_image` | one to one, matched again for each image                                     |
    | `nearest`   | the nearest by the mean over images, which several may share                 |
    """
    cost = host_array("cost", cost, np.float64)
    if cost.ndim != 3 or not cost.size:
        raise ValueError(f"cost: expected (B, H, H'), none of them 0, got {cost.shape}")
    if how not in MATCHINGS:
        raise ValueError(f"how: {how!r} is none of {', '.join(MATCHINGS)}")
    mean = cost.mean(0)
    rows = np.arange(cost.shape[1])
    if how == "per_image":
        heads = np.stack([_assigned(one) for one in cost])
        picked = np.take_along_axis(cost, heads[..., None], axis=2)
        return MatchedHeads(float(picked.mean()), jnp.asarray(heads, jnp.int32))
    if how == "identity":
        require_equal("cost", cost.shape[1], cost.shape[2], "the second network's heads")
        heads = rows
    else:
        heads = _assigned(mean) if how == "hungarian" else mean.argmin(1)
    return MatchedHeads(float(mean[rows, heads].mean()), jnp.asarray(heads, jnp.int32))


@jax.jit
def _image_divergence(p: jax.Array, q: jax.Array) -> jax.Array:
    def with_all(head: jax.Array) -> jax.Array:
        """One head (B, T, T) beside all of q, so that no H·H' maps exist at once: (B, H')."""
        return jensen_shannon(head[:, None], q).mean(-1)

    bits = jax.lax.map(with_all, jnp.moveaxis(p, 1, 0))
    return jnp.moveaxis(bits, 0, 1) * math.log(2)
