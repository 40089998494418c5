"""Masked autoencoder: a teacher from unlabelled images (He et al. 2021, 2111.06377)."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vit_jax_xfer.arguments.given_arrays import check_variables, given_array
from vit_jax_xfer.arguments.whole_numbers import check_number
from vit_jax_xfer.models.around_encoder import AroundEncoder
from vit_jax_xfer.models.products import dot_general_in
from vit_jax_xfer.models.protocol import Shapes
from vit_jax_xfer.models.transformer.block_design import BlockDesign, layer_norm
from vit_jax_xfer.models.transformer.patches import ImageSize, check_images, grid_of, patchify
from vit_jax_xfer.models.transformer.positions import resize_positions, sincos_2d
from vit_jax_xfer.models.transformer.stack import make_blocks, run_blocks
from vit_jax_xfer.models.vit import VisionTransformer


class MaskedAutoencoder(AroundEncoder):
    """Encodes the visible patches alone, decodes all; the mean squared error counts masked ones.

    Images (B, H, W, 3) and noise (B, N) → prediction (B, N, p·p·3), mask (B, N) with 1 = masked.
    The patches with the least noise stay visible.
    """

    predicts = "pixels"
    kind = "masked autoencoder"
    heads = starts_afresh = ()

    encoder: VisionTransformer  # pool="none", num_classes=0
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    decoder_mlp_dim: int | None = None  # None = 4 · decoder_width

    def setup(self) -> None:
        encoder = self.encoder
        if encoder.pool != "none" or not encoder.class_token:
            raise ValueError(
                "encoder: masked pre-training takes one with pool='none', num_classes=0 and a "
                f"class token; got pool={encoder.pool!r}, class_token={encoder.class_token}"
            )
        if (
            encoder.prefix_tokens != 1
            or encoder.position == "none"
            or encoder.relative_bias != "none"
            or encoder.rotary != "none"
            or not encoder.blocks_alike
            or encoder.window_size
        ):
            raise ValueError(
                "encoder: masked pre-training drops tokens, which needs absolute positions and a "
                "class token alone; turn off registers, relative_bias, rotary and windows, and "
                f"give positions; got position={encoder.position!r}"
            )
        if encoder.in_channels != 3:
            raise ValueError(
                f"in_channels: masked pre-training paints RGB, got {encoder.in_channels}"
            )
        if encoder.patch_stride not in (None, encoder.patch_size):
            raise ValueError(
                f"patch_stride: {encoder.patch_stride} makes patches overlap, so that masked ones "
                f"would be seen in part; masked pre-training takes {encoder.patch_size} or None"
            )
        if self.decoder_width % self.decoder_num_heads:
            raise ValueError(
                f"decoder_num_heads: {self.decoder_num_heads} does not divide decoder_width "
                f"{self.decoder_width}"
            )
        dense = {
            "kernel_init": nn.initializers.xavier_uniform(),
            "dtype": encoder.dtype,
            "dot_general": dot_general_in(encoder.product_dtype),
        }
        self.decoder_embed = nn.Dense(self.decoder_width, **dense)
        self.mask_token = self.param(
            "mask_token", nn.initializers.normal(0.02), (1, 1, self.decoder_width)
        )
        if encoder.position == "learned":
            h, w = encoder.grid
            self.decoder_pos_embed = self.param(
                "decoder_pos_embed",
                lambda _: jnp.asarray(sincos_2d((h, w), self.decoder_width)),
            )
        design = BlockDesign(
            num_heads=self.decoder_num_heads,
            mlp_dim=self.decoder_mlp_dim or 4 * self.decoder_width,
            norm_eps=encoder.norm_eps,
            kernel_init="xavier_uniform",
            dtype=encoder.dtype,
            product_dtype=encoder.product_dtype,
            implementation=encoder.attention,
            blockwise_above=encoder.blockwise_above,
        )
        self.decoder_blocks = make_blocks(
            self.decoder_depth, design, scan=encoder.scan, remat=encoder.remat
        )
        self.decoder_norm = layer_norm(encoder.norm_eps, encoder.dtype)
        # Pixels, as logits, are float32 at least.
        dense["dtype"] = jnp.promote_types(jnp.float32, encoder.dtype)
        self.decoder_pred = nn.Dense(encoder.patch_size**2 * 3, **dense)

    def summary(self) -> dict[str, str]:
        return self.encoder.summary()

    @nn.nowrap
    def example_inputs(self, image_size: ImageSize | None = None, batch: int = 1) -> Shapes:
        """Images, and the noise (B, N) that chooses the masked patches."""
        (images,) = super().example_inputs(image_size, batch)
        patches = math.prod(grid_of(images.shape[1:3], self.encoder.patch_size))
        return images, jax.ShapeDtypeStruct((batch, patches), jnp.float32)

    @classmethod
    def keywords(cls) -> dict[str, dataclasses.Field]:
        """Its encoder's, and its own."""
        return {**VisionTransformer.keywords(), **cls.own_keywords()}

    @classmethod
    def from_keywords(cls, fields: Mapping[str, Any]) -> Self:
        own = {name: value for name, value in fields.items() if name in cls.own_keywords()}
        rest = {name: value for name, value in fields.items() if name not in own}
        encoder = VisionTransformer(**{"num_classes": 0, "pool": "none", **rest})
        return cls(encoder=encoder, **own)

    def __call__(
        self, images: jax.Array, noise: jax.Array, mask_ratio: float = 0.75, train: bool = False
    ) -> tuple[jax.Array, jax.Array]:
        check_images(images)
        grid = grid_of(images.shape[1:3], self.encoder.patch_size)
        number = grid[0] * grid[1]
        if noise.shape != (images.shape[0], number):
            raise ValueError(
                f"noise: expected shape {(images.shape[0], number)}, got {tuple(noise.shape)}"
            )
        order = jnp.argsort(noise, axis=1)
        place = jnp.argsort(order, axis=1)
        visible = visible_patches(number, mask_ratio)
        tokens = self.encoder.embed(images)
        cls, patches = tokens[:, :1], tokens[:, 1:]
        kept = jnp.take_along_axis(patches, order[:, :visible, None], axis=1)
        latent = self.encoder.encode(jnp.concatenate([cls, kept], axis=1), train)
        prediction = self._decode(latent, place, grid)
        return prediction, (place >= visible).astype(jnp.float32)

    def _decode(self, latent: jax.Array, place: jax.Array, grid: tuple[int, int]) -> jax.Array:
        tokens = self.decoder_embed(latent)
        batch, number = place.shape
        masked = number - (tokens.shape[1] - 1)
        fill = jnp.broadcast_to(
            self.mask_token.astype(tokens.dtype), (batch, masked, self.decoder_width)
        )
        patches = jnp.concatenate([tokens[:, 1:], fill], axis=1)
        patches = jnp.take_along_axis(patches, place[..., None], axis=1)
        tokens = jnp.concatenate([tokens[:, :1], patches], axis=1)
        tokens = tokens + self._decoder_positions(grid).astype(tokens.dtype)
        tokens = run_blocks(self.decoder_blocks, tokens, self.decoder_depth)
        return self.decoder_pred(self.decoder_norm(tokens))[:, 1:]

    def _decoder_positions(self, grid: tuple[int, int]) -> jax.Array:
        if self.encoder.position == "sincos":
            return jnp.asarray(sincos_2d(grid, self.decoder_width))
        if grid == self.encoder.grid:
            return self.decoder_pos_embed
        return resize_positions(self.decoder_pos_embed, self.encoder.grid, grid)


def visible_patches(number: int, mask_ratio: float) -> int:
    """How many of `number` patches stay visible; at least one is seen and one is masked."""
    check_number("mask_ratio", mask_ratio)
    if not 0.0 < mask_ratio < 1.0:
        raise ValueError(f"mask_ratio: expected a number between 0 and 1, got {mask_ratio}")
    visible = int(number * (1 - mask_ratio))
    if not 0 < visible < number:
        raise ValueError(
            f"mask_ratio: {mask_ratio} of {number} patches leaves {visible} visible; "
            "at least one must be seen and one masked"
        )
    return visible


def reconstruction_targets(images: jax.Array, patch_size: int, norm_pix_loss: bool) -> jax.Array:
    """What the decoder should paint, (B, N, p·p·3): pixels, or each patch's standardised pixels."""
    target = patchify(images, patch_size)
    if not norm_pix_loss:
        return target
    mean = target.mean(axis=-1, keepdims=True)
    variance = target.var(axis=-1, keepdims=True, ddof=1)
    return (target - mean) / jnp.sqrt(variance + 1e-6)


def mae_forward(
    model: MaskedAutoencoder,
    variables: Any,
    images: ArrayLike,
    *,
    noise: ArrayLike,
    mask_ratio: float = 0.75,
    norm_pix_loss: bool = True,
    train: bool = False,
    rngs: dict[str, jax.Array] | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Loss (), prediction (B, N, p·p·3) and mask (B, N) of masked pre-training.

    noise: (B, N) numbers whose order chooses the patches: the least noisy stay visible.
    The loss is the mean squared error over the masked patches of the whole batch. ValueError for a
    network of another kind, and for images or noise of other shapes.
    """
    if not isinstance(model, MaskedAutoencoder):
        raise ValueError(
            f"model: got a {type(model).__name__}, expected a MaskedAutoencoder, such as "
            "create_model('mae_vit_base_patch16')"
        )
    check_variables("variables", variables)
    images, noise = given_array("images", images), given_array("noise", noise)
    prediction, mask = model.apply(variables, images, noise, mask_ratio, train, rngs=rngs)
    target = reconstruction_targets(images, model.encoder.patch_size, norm_pix_loss)
    error = jnp.square(prediction - target).mean(axis=-1)
    return (error * mask).sum() / mask.sum(), prediction, mask
