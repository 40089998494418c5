"""Stochastic depth: whole residual branches dropped per image (Huang et al. 2016, 1603.09382).

The factors of all blocks are drawn at once, at the top of the network. So two networks of one
depth that are given the same key drop the same branches, whatever their blocks look like, which
is what sharing them between a teacher and a student needs.
"""

import jax
import jax.numpy as jnp
import numpy as np


def branch_factors(key: jax.Array, depth: int, batch: int, rate: float) -> jax.Array:
    """Factors (depth, 2, batch) float32 for the two branches of each block.

    The chance to drop grows linearly from 0 at the first block to `rate` at the last. A factor is
    0 for a dropped branch and 1/(1 - chance) for a kept one.
    """
    keep = 1.0 - np.linspace(0.0, rate, depth, dtype=np.float32)[:, None, None]
    uniform = jax.random.uniform(key, (depth, 2, batch))
    return jnp.where(uniform < keep, 1.0 / keep, 0.0).astype(jnp.float32)
