"""The three blocks: attention on a pooled grid, on chosen pixels, and on all pixels.

Source: FilterViT (2410.22709). Each ends in an inverted residual that may halve the map.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from vit_jax_xfer.models import collections
from vit_jax_xfer.models.filter import selection
from vit_jax_xfer.models.filter.convolution import InvertedResidual, adaptive_pool
from vit_jax_xfer.models.filter.encoder import EncoderLayer, position_table
from vit_jax_xfer.models.filter.patterns import DeformableAttention, run_pattern


@dataclasses.dataclass(frozen=True)
class Stage:
    """One block of a network.

    kind: "pooled", "filter" or "full". width: channels that leave it. expand: of its inverted
    residual. layers: of its encoder. stride: of its inverted residual.
    grid: side of a pooled block's grid. keep: what a filter block keeps, a number or a share; share
    tables of the published models are at 224 pixels. position_width: the row length with which
    positions are counted where it is not the map's own. reduce: by what a full block narrows its
    tokens before attention.
    """

    kind: str
    width: int
    heads: int
    expand: int = 2
    layers: int = 1
    stride: int = 1
    grid: int = 11
    keep: float = 0.0
    position_width: int = 0
    reduce: int = 1


class PooledAttention(nn.Module):
    """Attention among the cells of a small pooled grid, added back to the map."""

    stage: Stage
    dropout: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        stage, (batch, height, width, channels) = self.stage, x.shape
        grid = (min(stage.grid, height), min(stage.grid, width))
        tokens = adaptive_pool(x, grid).reshape(batch, -1, channels)
        tokens = tokens + position_table(tokens.shape[1], channels).astype(self.dtype)
        # The MLP of this block is always twice as wide as its tokens.
        tokens = encode(self, tokens, 2 * channels, train)
        pooled = tokens.reshape(batch, *grid, channels)
        x = x + adaptive_pool(pooled, (height, width))
        residual = InvertedResidual(
            stage.width, stage.stride, stage.expand, self.dtype, name="residual"
        )
        return residual(x, train)


class FullAttention(nn.Module):
    """Attention among all pixels, without positions, around a residual."""

    stage: Stage
    dropout: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        stage, channels = self.stage, x.shape[-1]
        y = x
        if stage.reduce != 1:
            narrow = channels // stage.reduce
            y = InvertedResidual(narrow, 1, 1, self.dtype, name="reduce")(y, train)
        tokens = y.reshape(y.shape[0], -1, y.shape[-1])
        tokens = encode(self, tokens, stage.expand * y.shape[-1], train)
        y = tokens.reshape(y.shape)
        if stage.reduce != 1:
            y = InvertedResidual(channels, 1, 1, self.dtype, name="widen")(y, train)
        residual = InvertedResidual(
            stage.width, stage.stride, stage.expand, self.dtype, name="residual"
        )
        return residual(x + y, train)


def encode(block: nn.Module, tokens: jax.Array, mlp_dim: int, train: bool) -> jax.Array:
    """The encoder of a block, called in its compact method: tokens (B, T, C) → (B, T, C)."""
    stage = block.stage
    for i in range(stage.layers):
        layer = EncoderLayer(stage.heads, mlp_dim, block.dropout, block.dtype, name=f"encoder_{i}")
        tokens = layer(tokens, train)
    return tokens


class FilterAttention(nn.Module):
    """Attention among the pixels that `choose` picks, which it overwrites; the rest passes by.

    choose: "score" multiplies the map by a learned importance, through which the scores get their
    gradient, and keeps the best; "random" keeps random ones (DropoutViT). attend: "kept", or one of
    patterns.PATTERNS, by which all pixels attend and none is chosen. index: its place in a network,
    by which random choices of blocks on maps of one size differ at evaluation.
    Emits `filter/{kept,importance}`; takes `given/kept` (B, K).
    """

    stage: Stage
    dropout: float
    choose: str = "score"
    attend: str = "kept"
    keep: int | float | None = None
    straight_through: bool = False
    approximate: bool = False
    shared_draw: bool = False
    random_evaluation: bool = False
    index: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        stage, (batch, height, width, channels) = self.stage, x.shape
        mlp_dim = stage.expand * channels
        if self.attend != "kept":
            kept = jnp.arange(height * width)[None]
            tokens = selection.gather(x, jnp.repeat(kept, batch, axis=0))
            tokens = tokens + self._positions(kept, height, width, channels)
            tokens = self._by_pattern(tokens, (height, width), mlp_dim, train)
            x = tokens.reshape(x.shape)
        else:
            x, kept = self._pick(x, train)
            tokens = selection.gather(x, kept) + self._positions(kept, height, width, channels)
            x = self.put_back(x, kept, encode(self, tokens, mlp_dim, train))
        residual = InvertedResidual(
            stage.width, stage.stride, stage.expand, self.dtype, name="residual"
        )
        return residual(x, train)

    # As a method, which an onlooker can replace (collections.py).
    def put_back(self, x: jax.Array, kept: jax.Array, tokens: jax.Array) -> jax.Array:
        """The map with the tokens of its kept pixels in their places."""
        return selection.scatter(x, kept, tokens)

    def _pick(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """The map, weighed where it is scored, and the indices (B, K) of the chosen pixels."""
        batch, height, width, _ = x.shape
        keep = self.stage.keep if self.keep is None else self.keep
        number = selection.number_kept(keep, height * width)
        kept = collections.given(self, ("kept",)).get("kept")
        if kept is not None:
            kept = selection.checked_kept(kept, batch, height * width)
        if self.choose == "score":
            importance = selection.Importance(self.dtype, name="score")(x, train)
            collections.emit(self, "filter", importance=importance)
            if kept is None:
                scores = jax.lax.stop_gradient(importance).reshape(batch, -1)
                kept = selection.best(scores, number, self.approximate)
            x = x * self.factor(importance)[..., None].astype(x.dtype)
        elif kept is None:
            kept = self._draw(batch, height * width, number, train)
        collections.emit(self, "filter", kept=kept)
        return x, kept

    def factor(self, importance: jax.Array) -> jax.Array:
        """What the map is multiplied by; straight through, one with the importance's gradient.

        A method, which an onlooker can replace (collections.py).
        """
        if not self.straight_through:
            return importance
        return 1 + (importance - jax.lax.stop_gradient(importance))

    def _draw(self, batch: int, tokens: int, number: int, train: bool) -> jax.Array:
        if train or self.random_evaluation:
            if not self.has_rng("dropout"):
                raise ValueError("rngs: a random choice of tokens needs {'dropout': key}")
            key = self.make_rng("dropout")
            return selection.random(key, batch, tokens, number, self.shared_draw)
        # One draw for all images and all time, so that no figure depends on the batch.
        key = jax.random.fold_in(jax.random.key(0), self.index)
        return selection.random(key, batch, tokens, number, shared=True)

    def _by_pattern(
        self, tokens: jax.Array, grid: tuple[int, int], mlp_dim: int, train: bool
    ) -> jax.Array:
        for i in range(self.stage.layers):
            attend = None
            if self.attend == "deformable":
                attend = DeformableAttention(grid, self.stage.heads, self.dtype)
            layer = EncoderLayer(
                self.stage.heads, mlp_dim, self.dropout, self.dtype, attend, name=f"encoder_{i}"
            )
            tokens = run_pattern(self.attend, layer, tokens, grid, train)
        return tokens

    def _positions(self, kept: jax.Array, height: int, width: int, channels: int) -> jax.Array:
        row_length = max(self.stage.position_width, width)
        table = jnp.asarray(position_table(height * row_length, channels), self.dtype)
        return table[kept // width * row_length + kept % width]
