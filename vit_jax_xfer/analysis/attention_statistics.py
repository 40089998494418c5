"""What attention maps are like: how far they look, how spread they are, what holds their mass.

All are means over queries. Sources: Dosovitskiy et al. 2010.11929 (distance), Raghu et al.
2108.08810 (distances of trained networks); a class token's distance has no meaning and is left out.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.array_checks import require_features, require_maps
from vit_jax_xfer.arguments.given_arrays import given_array
from vit_jax_xfer.arguments.listed_values import listed
from vit_jax_xfer.arguments.whole_numbers import check_whole


class AttentionMass(NamedTuple):
    """Shares of attention, (L, B, H) float32 each: of a kind of query on a kind of key.

    Fields of a kind of token that the network lacks are None.
    """

    class_to_patches: jax.Array | None
    class_to_class: jax.Array | None
    class_to_others: jax.Array | None  # distillation token and registers
    patches_to_patches: jax.Array
    patches_to_class: jax.Array | None
    patches_to_others: jax.Array | None


def attention_distance(
    attention: ArrayLike,
    grid: tuple[int, int],
    num_prefix_tokens: int = 1,
    renormalize: bool = True,
) -> jax.Array:
    """How far patches look, in patches: maps (L, B, H, T, T) → (L, B, H) float32.

    The Euclidean distance between the middles of query and key, weighted by the map, averaged over
    queries; prefix tokens are neither. renormalize: rows sum to 1 over patches; False = what prefix
    tokens hold counts as no distance at all. An even look has the mean of all distances.
    ValueError unless T is the grid's patches and the prefix tokens.
    """
    attention = _checked(attention)
    sides = listed("grid", grid)
    if len(sides) != 2:
        raise ValueError(f"grid: got {grid}, expected rows and columns of patches")
    for side in sides:
        check_whole("grid", side)
    check_whole("num_prefix_tokens", num_prefix_tokens, 0)
    height, width = sides
    if attention.shape[-1] != num_prefix_tokens + height * width:
        raise ValueError(
            f"grid: {height}×{width} patches and {num_prefix_tokens} prefix tokens are "
            f"{num_prefix_tokens + height * width}, but the maps have {attention.shape[-1]} tokens"
        )
    rows, columns = (x.ravel() for x in jnp.indices((height, width)).astype(jnp.float32))
    distances = jnp.hypot(rows[:, None] - rows, columns[:, None] - columns)
    patches = attention[..., num_prefix_tokens:, num_prefix_tokens:]
    if renormalize:
        patches = _over_sum(patches)
    return (patches * distances).sum(-1).mean(-1)


def attention_entropy(attention: ArrayLike) -> jax.Array:
    """Entropy of rows in nats, all keys, the mean over all queries: (L, B, H, T, T) → (L, B, H).

    Divided by log T it is 1 for an even look at any resolution. For the class token's alone pass
    its row, `attention[..., :1, :]`.
    """
    attention = _checked(attention, square=False)
    logarithm = jnp.log(jnp.where(attention > 0, attention, 1.0))
    return -(attention * logarithm).sum(-1).mean(-1)


def attention_mass(
    attention: ArrayLike, num_prefix_tokens: int = 1, class_token: bool = True
) -> AttentionMass:
    """Which kinds of tokens the attention (L, B, H, T, T) of class token and patches lies on.

    class_token: whether the first prefix token is one; the others are registers and the like.
    """
    attention = _checked(attention)
    check_whole("num_prefix_tokens", num_prefix_tokens, 0)
    start = int(class_token)
    if not start <= num_prefix_tokens < attention.shape[-1]:
        raise ValueError(
            f"num_prefix_tokens: got {num_prefix_tokens} for {attention.shape[-1]} tokens"
            + (", of which one is the class token" if class_token else "")
        )
    others = num_prefix_tokens > start

    def mass(rows: jax.Array) -> tuple[jax.Array | None, ...]:
        """On patches, on the class token, on other prefix tokens."""
        parts = (
            rows[..., num_prefix_tokens:],
            rows[..., :start],
            rows[..., start:num_prefix_tokens],
        )
        there = (True, class_token, others)
        return tuple(
            x.sum(-1).mean(-1) if has else None for x, has in zip(parts, there, strict=True)
        )

    own = mass(attention[..., :1, :]) if class_token else (None, None, None)
    return AttentionMass(*own, *mass(attention[..., num_prefix_tokens:, :]))


def _over_sum(rows: jax.Array) -> jax.Array:
    total = rows.sum(-1, keepdims=True)
    return rows / jnp.where(total > 0, total, 1.0)


def _checked(attention: jax.Array, square: bool = True) -> jax.Array:
    attention = given_array("attention", attention)
    require_features("attention", attention, "(L, B, H, T, T)")
    if square and attention.shape[-1] != attention.shape[-2]:
        raise ValueError(f"attention: expected maps (T, T), got {attention.shape[-2:]}")
    require_maps("attention", attention)
    return attention.astype(jnp.float32)
