"""The feed-forward half of a block, plain or gated."""

import flax.linen as nn
import jax

from vit_jax_xfer.models.products import dot_general_in
from vit_jax_xfer.models.transformer.block_design import (
    ACTIVATIONS,
    KERNEL_INITS,
    BlockDesign,
    layer_norm,
)


class Mlp(nn.Module):
    """Two dense layers with an activation between them: (…, C) → (…, C).

    "swiglu" multiplies a third layer's SiLU in place of the activation (2002.05202; DINOv2's
    giant, DINOv3, EVA-02), "geglu" its activation; `mlp_norm` normalises the hidden features
    (EVA-02, 2303.11331).
    """

    design: BlockDesign

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        design = self.design
        dense = {
            "kernel_init": KERNEL_INITS[design.kernel_init],
            "dtype": design.dtype,
            "dot_general": dot_general_in(design.product_dtype),
        }
        hidden = nn.Dense(design.mlp_dim, name="fc1", **dense)(x)
        if design.mlp == "plain":
            hidden = self.activate(hidden)
        else:
            factor = self.activate(nn.Dense(design.mlp_dim, name="gate", **dense)(x))
            hidden = self.multiply(hidden, factor)
        if design.mlp_norm:
            hidden = layer_norm(design.norm_eps, design.dtype, "norm")(hidden)
        return nn.Dense(x.shape[-1], name="fc2", **dense)(hidden)

    # As methods, which an onlooker can replace (collections.py).

    def activate(self, x: jax.Array) -> jax.Array:
        """The activation, of each number alone."""
        function = nn.silu if self.design.mlp == "swiglu" else ACTIVATIONS[self.design.activation]
        # Left alone, autodiff keeps the factors of its derivative: two arrays of hidden's size.
        return jax.checkpoint(function)(x)

    def multiply(self, hidden: jax.Array, factor: jax.Array) -> jax.Array:
        """The gate's product."""
        return hidden * factor
