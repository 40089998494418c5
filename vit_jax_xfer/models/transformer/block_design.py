"""What a transformer block is made of: one plain object that every part of it reads."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

KERNEL_INITS: dict[str, Any] = {
    # timm, DeiT, and the students of attention transfer.
    "truncated_normal": nn.initializers.truncated_normal(0.02),
    # MAE's pre-training; flax hands the flattened (inputs, outputs) shape to the initialiser.
    "xavier_uniform": nn.initializers.xavier_uniform(),
}

ACTIVATIONS: dict[str, Any] = {
    "gelu": lambda x: nn.gelu(x, approximate=False),
    "gelu_tanh": nn.gelu,  # big_vision and SigLIP
    "quick_gelu": lambda x: x * jax.nn.sigmoid(1.702 * x),  # OpenAI's CLIP
}

# The values that fields of a network may take.
CHOICES: dict[str, tuple[str, ...]] = {
    "kernel_init": tuple(KERNEL_INITS),
    "activation": tuple(ACTIVATIONS),
    "mlp": ("plain", "swiglu", "geglu"),
    "qkv_bias": ("full", "no_key", "masked_key", "none"),
    "relative_bias": ("none", "block", "shared", "decomposed"),
    "relative_resize": ("geometric", "bilinear"),
    "rotary": ("none", "dinov3", "eva02"),
}


@dataclasses.dataclass(frozen=True)
class BlockDesign:
    """The fields of a block; `VisionTransformer` documents those that it has too."""

    num_heads: int
    mlp_dim: int
    norm_eps: float = 1e-6
    kernel_init: str = "truncated_normal"
    dtype: Any = jnp.float32
    product_dtype: Any = None
    implementation: str = "auto"
    blockwise_above: int | None = None
    qkv_bias: str = "full"
    qk_norm: bool = False
    attention_norm: bool = False
    relative_bias: str = "none"
    relative_resize: str = "geometric"
    grid: tuple[int, int] = (14, 14)  # native, of the relative positions' table
    layer_scale: float | None = None
    activation: str = "gelu"
    mlp: str = "plain"
    mlp_norm: bool = False
    window: int = 0  # side of the windows within which it attends; 0 = among all tokens
    propagation: bool = False  # whether convolutions follow it


def layer_norm(
    eps: float, dtype: Any, name: str | None = None, scale_init: Any = nn.initializers.ones
) -> nn.LayerNorm:
    """LayerNorm with float32 statistics and a two-pass variance, as PyTorch computes it."""
    return nn.LayerNorm(
        epsilon=eps, dtype=dtype, use_fast_variance=False, scale_init=scale_init, name=name
    )
