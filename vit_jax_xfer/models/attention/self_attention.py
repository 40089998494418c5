"""Multi-head self-attention that can be watched and replaced.

Source: Vaswani et al. 2017 (1706.03762); each option of `BlockDesign` has its own.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models import collections
from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.products import dot_general_in, product
from vit_jax_xfer.models.transformer.block_design import KERNEL_INITS, BlockDesign, layer_norm
from vit_jax_xfer.models.transformer.decomposed_positions import with_offsets
from vit_jax_xfer.models.transformer.relative_positions import gather_bias, resize_table, table_rows
from vit_jax_xfer.models.transformer.rotary import Rotation, rotate
from vit_jax_xfer.models.transformer.token_positions import TokenPositions

Bias = jax.Array | None


class QueryKeyValue(nn.Module):
    """One projection for queries, keys and values: (B, T, C) → three of (B, T, H, d).

    The kernel is (C, 3, H, d). bias: "full" (3, H, d); "no_key" (2, H, d), since a constant added
    to all keys' scores changes no softmax (BEiT, EVA-02); "masked_key" (3, H, d) of which the
    key's part is not used (DINOv3); "none".
    """

    num_heads: int
    bias: str
    kernel_init: str
    dtype: Any
    product_dtype: Any = None

    @nn.compact
    def __call__(self, tokens: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        width = tokens.shape[-1]
        heads = (self.num_heads, width // self.num_heads)

        def flat_init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return KERNEL_INITS[self.kernel_init](key, (width, 3 * width)).reshape(shape)

        kernel = self.param("kernel", flat_init, (width, 3, *heads)).astype(self.dtype)
        qkv = product(tokens.astype(self.dtype), kernel, self.product_dtype)
        # Not by indices, whose gradients would be three padded arrays to add up.
        q, k, v = (part.squeeze(2) for part in jnp.split(qkv, 3, axis=2))
        if self.bias == "none":
            return q, k, v
        parts = 2 if self.bias == "no_key" else 3
        bias = self.param("bias", nn.initializers.zeros, (parts, *heads)).astype(self.dtype)
        return q + bias[0], k + bias[1] if self.bias == "full" else k, v + bias[-1]


class Attention(nn.Module):
    """Multi-head self-attention on tokens (B, T, C) → (B, T, C).

    Emits `attention/map` and `qkv/{q,k,v,bias}`; takes `given/{map,q,k,v,bias,heads}` (see
    collections.py). q and k are those of the scores: normalised (2302.05442), turned, and with
    decomposed relative positions wider than v.
    """

    design: BlockDesign

    @nn.compact
    def __call__(self, tokens: jax.Array, place: TokenPositions | None = None) -> jax.Array:
        design = self.design
        q, k, v = QueryKeyValue(
            design.num_heads,
            design.qkv_bias,
            design.kernel_init,
            design.dtype,
            design.product_dtype,
            name="qkv",
        )(tokens)
        if design.qk_norm:
            q = layer_norm(design.norm_eps, design.dtype, "q_norm")(q)
            k = layer_norm(design.norm_eps, design.dtype, "k_norm")(k)
        if place is not None and place.rotation is not None:
            q, k = self.turn(q, place.rotation), self.turn(k, place.rotation)
        if design.relative_bias == "decomposed":
            q, k = self._with_offsets(q, k, place)
        bias = self._bias(place)
        collections.emit(self, "qkv", q=q, k=k, v=v)
        if bias is not None:
            collections.emit(self, "qkv", bias=bias)
        out = self._attend(q, k, v, bias)
        if design.attention_norm:
            flat = layer_norm(design.norm_eps, design.dtype, "norm")(out.reshape(tokens.shape))
            out = flat.reshape(out.shape)
        init = KERNEL_INITS[design.kernel_init]
        return nn.DenseGeneral(
            tokens.shape[-1],
            axis=(-2, -1),
            kernel_init=init,
            dtype=design.dtype,
            dot_general=dot_general_in(design.product_dtype),
            name="proj",
        )(out)

    def turn(self, x: jax.Array, rotation: Rotation) -> jax.Array:
        """Queries or keys, turned by where their tokens sit."""
        return rotate(x, rotation)

    def _bias(self, place: TokenPositions | None) -> Bias:
        """What is added to the scores, (H, T, T) float32: the block's own, or the shared one."""
        design = self.design
        if design.relative_bias != "block":
            return None if place is None else place.bias
        table = self.param(
            "relative_bias",
            nn.initializers.truncated_normal(0.02),
            (table_rows(design.grid), design.num_heads),
        )
        table = resize_table(table, design.grid, place.grid, design.relative_resize)
        return gather_bias(table, place.grid, place.prefix_tokens, place.cells)

    def _with_offsets(
        self, q: jax.Array, k: jax.Array, place: TokenPositions
    ) -> tuple[jax.Array, jax.Array]:
        """Queries and keys with what decomposed relative positions add to their products."""
        design = self.design
        native = (design.window,) * 2 if design.window else design.grid
        down, across = (
            self.param(name, nn.initializers.zeros, (2 * n - 1, q.shape[-1]))
            for name, n in zip(("relative_down", "relative_across"), native, strict=True)
        )
        return with_offsets(q, k, down, across, place.cells)

    def _attend(self, q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias) -> jax.Array:
        given = collections.given(self, ("map", "q", "k", "v", "bias", "heads"))
        heads = given.pop("heads", None)
        per_head = None if heads is None else heads[:, None]
        per_map = None if heads is None else heads[:, None, None]
        q = _replace(q, given.get("q"), per_head)
        k = _replace(k, given.get("k"), per_head)
        v = _replace(v, given.get("v"), per_head)
        if "bias" in given:
            own = jnp.zeros_like(given["bias"]) if bias is None else bias
            bias = _replace(own, given["bias"], per_map)
        if "map" not in given and not collections.wanted(self, "attention"):
            return self.attend(q, k, v, bias)
        if "map" in given and heads is None:
            weights = given["map"]
        else:
            weights = _replace(self.attention_map(q, k, bias), given.get("map"), per_map)
        collections.emit(self, "attention", map=weights)
        return self.apply_map(weights, v)

    # As methods, which an onlooker can replace (collections.py).

    def attention_map(self, q: jax.Array, k: jax.Array, bias: Bias) -> jax.Array:
        """The map (B, H, T, T) float32 of queries and keys."""
        return kernels.attention_map(q, k, bias)

    def apply_map(self, weights: jax.Array, v: jax.Array) -> jax.Array:
        """What the map takes of the values, (B, T, H, d)."""
        return kernels.apply_map(weights, v)

    def attend(self, q: jax.Array, k: jax.Array, v: jax.Array, bias: Bias) -> jax.Array:
        """As the two above, without a map that anyone sees."""
        return kernels.dot_product_attention(
            q,
            k,
            v,
            bias,
            implementation=self.design.implementation,
            blockwise_above=self.design.blockwise_above,
        )


def _replace(own: jax.Array, other: jax.Array | None, mask: jax.Array | None) -> jax.Array:
    """`other` where the mask is true; all of it without a mask; `own` where there is no other."""
    if other is None:
        return own
    other = other.astype(own.dtype)
    return other if mask is None else jnp.where(mask, other, own)
