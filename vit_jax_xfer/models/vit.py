"""The vision transformer: one model, whose families are fields.

Sources: ViT (2010.11929); average pooling with its own norm, MAE (2111.06377).
"""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.block import KERNEL_INITS, layer_norm
from vit_jax_xfer.models.drop_path import branch_factors
from vit_jax_xfer.models.patches import PatchEmbed, check_images, grid_of
from vit_jax_xfer.models.positions import resize_positions, sincos_2d
from vit_jax_xfer.models.stack import REMAT_POLICIES, make_blocks, run_blocks


@flax.struct.dataclass
class ViTOutput:
    """What one forward pass gives.

    tokens (B, T, C) after the final norm, prefix tokens first; pooled (B, C), what the head sees,
    None with pool="none"; logits (B, K), None without a head.
    """

    tokens: jax.Array
    pooled: jax.Array | None
    logits: jax.Array | None


class VisionTransformer(nn.Module):
    """Images (B, H, W, 3) float32 → logits (B, K), or the pooled features where there is no head.

    H and W may differ from `image_size`: positions are resized to the image's grid.
    """

    image_size: int | tuple[int, int] = 224  # of the stored positions, pixels
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int | None = None  # None = 4 · width
    num_classes: int = 1000  # 0 = no head
    pool: str = "cls"  # what the head sees: cls | avg (mean of patch tokens) | none
    pool_norm: bool | None = None  # norm after pooling and none before (MAE); None = pool == "avg"
    class_token: bool = True
    position: str = "learned"  # learned | sincos (fixed, no parameter)
    position_resize: str = "bicubic"  # bicubic | bicubic_antialias, both as PyTorch computes them
    norm_eps: float = 1e-6
    drop_path: float = 0.0  # chance of the last block's branches; grows linearly from 0
    kernel_init: str = "truncated_normal"  # truncated_normal | xavier_uniform
    head_init_std: float = 0.02  # MAE fine-tunes from 2e-5
    dtype: Any = jnp.float32  # of activations; parameters and softmax stay float32
    attention: str = "auto"  # auto | plain | blockwise | cudnn, see kernels.py
    blockwise_above: int = (
        1024  # tokens above which a backend without a fused kernel goes blockwise
    )
    remat: str = "none"  # none | full | dots
    scan: bool = False  # one compiled block, scanned over layers

    def setup(self) -> None:
        self._check_fields()
        xavier = self.kernel_init == "xavier_uniform"
        self.patch_embed = PatchEmbed(
            self.width, self.patch_size, "xavier_uniform" if xavier else "torch_conv", self.dtype
        )
        table_init = nn.initializers.truncated_normal(0.02)
        if self.class_token:
            self.cls_token = self.param("cls_token", table_init, (1, 1, self.width))
        if self.position == "learned":
            h, w = self.grid
            shape = (1, self.prefix_tokens + h * w, self.width)
            self.pos_embed = self.param("pos_embed", table_init, shape)
        self.blocks = make_blocks(
            self.depth,
            scan=self.scan,
            remat=self.remat,
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim or 4 * self.width,
            norm_eps=self.norm_eps,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            implementation=self.attention,
            blockwise_above=self.blockwise_above,
        )
        if self.norm_after_pool:
            self.head_norm = layer_norm(self.norm_eps, self.dtype)
        else:
            self.norm = layer_norm(self.norm_eps, self.dtype)
        if self.num_classes:
            init = nn.initializers.truncated_normal(self.head_init_std)
            self.head = nn.Dense(self.num_classes, kernel_init=init, dtype=self.dtype)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (down, across) at the native image size."""
        return grid_of(self.image_size, self.patch_size)

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patch tokens."""
        return int(self.class_token)

    @property
    def norm_after_pool(self) -> bool:
        """Whether the last norm sits after the pooling rather than before it."""
        return self.pool == "avg" if self.pool_norm is None else self.pool_norm

    def num_tokens(self, image_shape: tuple[int, ...]) -> int:
        """Tokens that an image (…, H, W, 3) becomes, prefix tokens included."""
        h, w = grid_of((image_shape[-3], image_shape[-2]), self.patch_size)
        return self.prefix_tokens + h * w

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        out = self.forward(images, train)
        for value in (out.logits, out.pooled):
            if value is not None:
                return value
        return out.tokens

    def forward(self, images: jax.Array, train: bool = False) -> ViTOutput:
        """Every stage of the result. train=True drops branches (rngs={"dropout": key})."""
        tokens = self.encode(self.embed(images), train)
        pooled = self._pool(tokens)
        logits = None
        if self.num_classes:
            logits = self.head(pooled).astype(jnp.promote_types(jnp.float32, pooled.dtype))
        return ViTOutput(tokens, pooled, logits)

    def embed(self, images: jax.Array) -> jax.Array:
        """Patch tokens with their positions and the class token before them: (B, T, C)."""
        check_images(images)
        grid = grid_of(images.shape[1:3], self.patch_size)
        positions = self.positions(grid).astype(self.dtype)
        prefix = self.prefix_tokens
        tokens = self.patch_embed(images) + positions[:, prefix:]
        if not self.class_token:
            return tokens
        cls = self.cls_token.astype(self.dtype) + positions[:, :1]
        return jnp.concatenate([jnp.repeat(cls, tokens.shape[0], axis=0), tokens], axis=1)

    def positions(self, grid: tuple[int, int]) -> jax.Array:
        """Position embeddings (1, prefix + h·w, C) float32 for a grid of patches."""
        if self.position == "sincos":
            return jnp.asarray(sincos_2d(grid, self.width, self.prefix_tokens))
        if grid == self.grid:
            return self.pos_embed
        return resize_positions(
            self.pos_embed,
            self.grid,
            grid,
            prefix_tokens=self.prefix_tokens,
            antialias=self.position_resize == "bicubic_antialias",
        )

    def encode(self, tokens: jax.Array, train: bool = False) -> jax.Array:
        """The blocks and the final norm (none with a norm after pooling): (B, T, C) → (B, T, C)."""
        keep = None
        if train and self.drop_path > 0:
            if not self.has_rng("dropout"):
                raise ValueError("rngs: train=True with drop_path > 0 needs {'dropout': key}")
            key = self.make_rng("dropout")
            keep = branch_factors(key, self.depth, tokens.shape[0], self.drop_path)
        tokens = run_blocks(self.blocks, tokens, self.depth, keep)
        return tokens if self.norm_after_pool else self.norm(tokens)

    def _pool(self, tokens: jax.Array) -> jax.Array | None:
        if self.pool == "none":
            return None
        if self.pool == "cls":
            pooled = tokens[:, 0]
        else:
            # A mean over thousands of tokens needs more digits than bf16 has.
            pooled = tokens[:, self.prefix_tokens :].astype(jnp.float32).mean(axis=1)
            pooled = pooled.astype(tokens.dtype)
        return self.head_norm(pooled) if self.norm_after_pool else pooled

    def _check_fields(self) -> None:
        choices = {
            "pool": ("cls", "avg", "none"),
            "position": ("learned", "sincos"),
            "position_resize": ("bicubic", "bicubic_antialias"),
            "kernel_init": tuple(KERNEL_INITS),
            "remat": tuple(REMAT_POLICIES),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field}: {getattr(self, field)!r} is none of {allowed}")
        if self.width % self.num_heads:
            raise ValueError(f"num_heads: {self.num_heads} does not divide width {self.width}")
        if self.pool == "cls" and not self.class_token:
            raise ValueError("pool='cls' needs class_token=True")
        if self.pool == "none" and (self.num_classes or self.norm_after_pool):
            raise ValueError("pool='none' goes with num_classes=0 and without pool_norm")
