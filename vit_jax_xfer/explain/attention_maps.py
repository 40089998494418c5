"""Attention maps made readable: how much each patch is looked at, how far two networks agree."""

import jax
import jax.numpy as jnp


def received(attention: jax.Array, grid: tuple[int, int], num_prefix_tokens: int) -> jax.Array:
    """How much patch tokens look at each patch: maps (…, H, T, T) → (…, H, h, w) float32.

    The mean over the queries that are patches; the keys that are prefix tokens are left out, and
    what remains is scaled to a mean of 1, so that 1 is what an even look gives.
    """
    patches = attention[..., num_prefix_tokens:, num_prefix_tokens:].astype(jnp.float32)
    looked_at = patches.mean(axis=-2)
    looked_at = looked_at / looked_at.mean(axis=-1, keepdims=True)
    return looked_at.reshape(*looked_at.shape[:-1], *grid)


def jensen_shannon(a: jax.Array, b: jax.Array) -> jax.Array:
    """Divergence of two maps (…, T, T), row by row: (…, T) float32 in bits, 0 equal to 1 disjoint.

    Source: Lin 1991; 2411.09702 compares teachers' and students' maps by it.
    """
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    middle = (a + b) / 2
    return (_relative_entropy(a, middle) + _relative_entropy(b, middle)) / 2


def _relative_entropy(p: jax.Array, q: jax.Array) -> jax.Array:
    # 0 · log 0 is 0; the inner where keeps the logarithm away from it.
    ratio = jnp.where(p > 0, p / jnp.where(q > 0, q, 1.0), 1.0)
    return (p * jnp.log2(ratio)).sum(axis=-1)
