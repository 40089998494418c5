"""Which pixels become tokens: the best by score, or random ones; all shapes static."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models.batch_norm import BatchNorm
from vit_jax_xfer.models.products import product
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL, torch_bias


def number_kept(keep: int | float, tokens: int) -> int:
    """How many of `tokens` a stage keeps. keep: a number, or a share of the tokens up to 1.0.

    ValueError naming the field for none, and for more than there are.
    """
    if isinstance(keep, bool) or not isinstance(keep, int | float):
        raise ValueError(f"keep: got {keep!r}, expected a number of tokens or a share of them")
    if isinstance(keep, float):
        if not 0.0 < keep <= 1.0:
            raise ValueError(
                f"keep: {keep} is no share of the tokens; choose one above 0, up to 1.0"
            )
        return max(1, round(keep * tokens))
    if not 0 < keep <= tokens:
        raise ValueError(f"keep: {keep} of {tokens} tokens; choose between 1 and {tokens}")
    return keep


class Importance(nn.Module):
    """A score for every pixel from a 31×31 window: (B, H, W, C) → (B, H, W), from 0.46 to 1.

    A 7×7 convolution of dilation 5 to one channel, batch norm, GELU, sigmoid.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        width = x.shape[-1]
        kernel = self.param("kernel", TORCH_KERNEL, (7, 7, width, 1))
        bias = self.param("bias", torch_bias(49 * width), (1,))
        # One matrix product for all taps, whose results are then brought to where they belong.
        taps = product(x, kernel.reshape(49, width).T.astype(x.dtype))
        scores = sum_of_taps(taps.astype(jnp.promote_types(x.dtype, jnp.float32)))
        scores = BatchNorm(dtype=scores.dtype, name="norm")((scores + bias)[..., None], train)
        return jax.nn.sigmoid(nn.gelu(scores[..., 0], approximate=False))


@jax.jit  # under its own name in a jaxpr, as shifted_sum
def sum_of_taps(taps: jax.Array) -> jax.Array:
    """Tap t of (B, H, W, 49) from where it looks, dilation 5 and padding 15: (B, H, W).

    By products with matrices of zeros and ones: the derivative of slices and additions takes
    thirteen times as long on a CPU, and long to compile.
    """
    batch, height, width, _ = taps.shape
    exact = jax.lax.Precision.HIGHEST  # elsewhere than on a CPU the scores' ranks would suffer
    taps = taps.reshape(batch, height, width, 7, 7)
    rows = jnp.einsum("bhvrc,cvw->bhwr", taps, _shifts(width, taps.dtype), precision=exact)
    return jnp.einsum("bgwr,rgh->bhw", rows, _shifts(height, taps.dtype), precision=exact)


def _shifts(size: int, dtype: Any) -> jax.Array:
    """(7, size, size): the i-th puts place p + 5(i - 3) in place p, zeros from outside."""
    return jnp.asarray(np.stack([np.eye(size, k=5 * (3 - i)) for i in range(7)]), dtype)


def best(scores: jax.Array, number: int, approximate: bool = False) -> jax.Array:
    """Flat indices (B, K) int32 of the highest scores (B, N), ascending.

    Equal scores: the lower index; NaN ranks last. approximate: `lax.approx_max_k`, faster on
    accelerators.
    """
    scores = jnp.where(jnp.isnan(scores), -jnp.inf, scores)
    find = jax.lax.approx_max_k if approximate else jax.lax.top_k
    return jnp.sort(find(scores, number)[1], axis=-1).astype(jnp.int32)


def random(key: jax.Array, batch: int, tokens: int, number: int, shared: bool) -> jax.Array:
    """Flat indices (B, K) int32, ascending, drawn without replacement.

    shared: one draw for the whole batch, as the published code has it.
    """
    draws = 1 if shared else batch
    noise = jax.random.uniform(key, (draws, tokens))
    kept = jnp.sort(jax.lax.top_k(noise, number)[1], axis=-1).astype(jnp.int32)
    return jnp.broadcast_to(kept, (batch, number))


def checked_kept(kept: jax.Array, batch: int, tokens: int) -> jax.Array:
    """Given indices (B, K) as int32. ValueError unless each image's are different tokens.

    Of traced ones only shape and type are known.
    """
    whole = jnp.issubdtype(kept.dtype, jnp.integer)
    fits = kept.ndim == 2 and len(kept) == batch and 0 < kept.shape[1] <= tokens
    wrong = not (whole and fits)
    if not wrong and not isinstance(kept, jax.core.Tracer):
        ranked = np.sort(np.asarray(kept), axis=1)
        wrong = ranked.min() < 0 or ranked.max() >= tokens or (np.diff(ranked, axis=1) == 0).any()
    if wrong:
        raise ValueError(
            f"kept: got {kept.dtype} {tuple(kept.shape)}, expected (B, K), different numbers from "
            f"0 to {tokens - 1} for each of {batch} images"
        )
    return kept.astype(jnp.int32)


def gather(x: jax.Array, kept: jax.Array) -> jax.Array:
    """The kept tokens (B, K, C) of a map (B, H, W, C)."""
    tokens = x.reshape(x.shape[0], -1, x.shape[-1])
    return jnp.take_along_axis(tokens, kept[..., None], axis=1)


def scatter(x: jax.Array, kept: jax.Array, tokens: jax.Array) -> jax.Array:
    """The map with `tokens` (B, K, C) in place of its kept ones."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    put = jax.vmap(lambda rows, index, values: rows.at[index].set(values, unique_indices=True))
    return put(flat, kept, tokens.astype(x.dtype)).reshape(x.shape)


def scatter_flat(x: jax.Array, kept: jax.Array, tokens: jax.Array) -> jax.Array:
    """The same over the rows of all maps at once: for exporters, which know no batched scatter.

    Not on a mesh: the compiler can't see that no row leaves its own map.
    """
    batch, pixels = x.shape[0], x.shape[1] * x.shape[2]
    index = (kept + pixels * jnp.arange(batch, dtype=kept.dtype)[:, None]).reshape(-1)
    rows, values = x.reshape(-1, x.shape[-1]), tokens.reshape(-1, x.shape[-1]).astype(x.dtype)
    return rows.at[index].set(values, unique_indices=True).reshape(x.shape)
