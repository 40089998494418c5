"""A pre-norm transformer block: attention and MLP, each behind a norm.

Source: Vaswani et al. 2017 (1706.03762), in the pre-norm form of ViT (2010.11929).
"""

import flax.linen as nn
import jax

from vit_jax_xfer.models import collections
from vit_jax_xfer.models.attention.self_attention import Attention
from vit_jax_xfer.models.transformer.block_design import BlockDesign, layer_norm
from vit_jax_xfer.models.transformer.mlp import Mlp
from vit_jax_xfer.models.transformer.propagation import Propagation
from vit_jax_xfer.models.transformer.token_positions import TokenPositions
from vit_jax_xfer.models.transformer.windows import from_windows, to_windows


class Block(nn.Module):
    """Attention and MLP, each behind a norm, on tokens (B, T, C) → (B, T, C).

    keep: (2, B) factors of stochastic depth for the two branches, None to keep both whole.
    place: where the tokens sit, for designs with rotary or relative positions, windows or
    convolutions. What attention emits and takes within windows has them in the place of images.
    """

    design: BlockDesign

    @nn.compact
    def __call__(
        self, tokens: jax.Array, keep: jax.Array | None = None, place: TokenPositions | None = None
    ) -> jax.Array:
        eps, dtype = self.design.norm_eps, self.design.dtype
        branch = self._attend(layer_norm(eps, dtype, "norm1")(tokens), place)
        tokens = self.add(tokens, _drop(self._layer_scale("layer_scale1", branch), keep, 0))
        branch = Mlp(self.design, name="mlp")(layer_norm(eps, dtype, "norm2")(tokens))
        tokens = self.add(tokens, _drop(self._layer_scale("layer_scale2", branch), keep, 1))
        if self.design.propagation:
            carry = Propagation(self.design.activation, dtype, name="propagation")
            tokens = carry(tokens, place.grid)
        collections.emit(self, "residual", stream=tokens)
        return tokens

    def _attend(self, tokens: jax.Array, place: TokenPositions | None) -> jax.Array:
        """Attention among all tokens, or within each window."""
        attention, size = Attention(self.design, name="attention"), self.design.window
        if not size:
            return attention(tokens, place)
        windows = attention(to_windows(tokens, place.grid, size), place.window)
        return from_windows(windows, place.grid, size)

    def _layer_scale(self, name: str, branch: jax.Array) -> jax.Array:
        """The branch times a learned factor a channel (LayerScale, CaiT, 2103.17239)."""
        if self.design.layer_scale is None:
            return branch
        init = nn.initializers.constant(self.design.layer_scale)
        factor = self.param(name, init, branch.shape[-1:])
        return self.scale(branch, factor.astype(branch.dtype))

    # As methods, which an onlooker can replace (collections.py).

    def scale(self, branch: jax.Array, factor: jax.Array) -> jax.Array:
        """A branch times a factor a channel."""
        return branch * factor

    def add(self, tokens: jax.Array, branch: jax.Array) -> jax.Array:
        """A residual connection."""
        return tokens + branch


def _drop(branch: jax.Array, keep: jax.Array | None, index: int) -> jax.Array:
    if keep is None:
        return branch
    return branch * keep[index].astype(branch.dtype)[:, None, None]
