"""The small post-norm transformer that runs on the chosen tokens."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax_xfer.models import collections
from vit_jax_xfer.models.attention import kernels
from vit_jax_xfer.models.products import matrix_product, product
from vit_jax_xfer.models.pytorch_init import TORCH_KERNEL, torch_bias
from vit_jax_xfer.models.transformer.block_design import layer_norm

# Keys up to which a map is built at once: what docs/filter_vit.md measured.
WHOLE_MAPS = 1024


def position_table(number: int, width: int) -> np.ndarray:
    """Sines and cosines of the raster index (1706.03762): (number, width) float32, interleaved."""
    frequencies = np.exp(np.arange(0, width, 2) * (-np.log(10000.0) / width)).astype(np.float32)
    angles = np.arange(number, dtype=np.float32)[:, None] * frequencies
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(number, width)


class EncoderLayer(nn.Module):
    """Post-norm attention and ReLU MLP, as PyTorch's TransformerEncoderLayer: (B, T, C) → same.

    dropout acts on maps, both projections, and the hidden features, with rngs={"dropout": key}.
    attend: what takes the place of attention among the tokens, (tokens, train) → (B, T, C).
    Emits `attention/map` (B, H, T, S).
    """

    num_heads: int
    mlp_dim: int
    dropout: float = 0.1
    dtype: Any = jnp.float32
    attend: nn.Module | None = None

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, keys: jax.Array | None = None
    ) -> jax.Array:
        """keys: tokens (B, S, C) to attend to in place of the layer's own."""
        width = x.shape[-1]
        drop = nn.Dropout(self.dropout, deterministic=not train)
        if self.attend is None:
            attended = self._attention(x, x if keys is None else keys, train)
        else:
            attended = self.attend(x, train)
        x = layer_norm(1e-5, self.dtype, "norm1")(x + drop(attended))
        hidden = drop(self.activate(self._dense(self.mlp_dim, width, "fc1")(x)))
        x = layer_norm(1e-5, self.dtype, "norm2")(
            x + drop(self._dense(width, self.mlp_dim, "fc2")(hidden))
        )
        return x.astype(self.dtype)

    def _attention(self, x: jax.Array, keys: jax.Array, train: bool) -> jax.Array:
        width = x.shape[-1]
        shape = (width, 3, self.num_heads, width // self.num_heads)

        def init(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
            return nn.initializers.xavier_uniform()(key, (width, 3 * width)).reshape(shape)

        kernel = self.param("qkv_kernel", init, shape).astype(self.dtype)
        offset = self.param("qkv_bias", nn.initializers.zeros, shape[1:]).astype(self.dtype)
        q = product(x, kernel[:, 0]) + offset[0]
        k, v = (product(keys, kernel[:, i]) + offset[i] for i in (1, 2))
        if (train and self.dropout) or collections.wanted(self, "attention"):
            weights = self.attention_map(q, k)
            collections.emit(self, "attention", map=weights)
            weights = nn.Dropout(self.dropout, deterministic=not train)(weights)
            out = self.apply_map(weights, v)
        else:
            out = kernels.dot_product_attention(q, k, v, blockwise_above=WHOLE_MAPS)
        return nn.DenseGeneral(
            width,
            axis=(-2, -1),
            kernel_init=TORCH_KERNEL,
            dtype=self.dtype,
            dot_general=matrix_product,
            name="proj",
        )(out)

    # As methods, which an onlooker can replace (collections.py).

    def attention_map(self, q: jax.Array, k: jax.Array, bias: None = None) -> jax.Array:
        """The map (B, H, T, S) float32 of queries and keys."""
        return kernels.attention_map(q, k, bias)

    def apply_map(self, weights: jax.Array, v: jax.Array) -> jax.Array:
        """What the map takes of the values, (B, T, H, d)."""
        return kernels.apply_map(weights, v)

    def activate(self, x: jax.Array) -> jax.Array:
        """The activation, of each number alone."""
        return nn.relu(x)

    def _dense(self, width: int, fan_in: int, name: str) -> nn.Dense:
        return nn.Dense(
            width,
            kernel_init=TORCH_KERNEL,
            bias_init=torch_bias(fan_in),
            dtype=self.dtype,
            dot_general=matrix_product,
            name=name,
        )
