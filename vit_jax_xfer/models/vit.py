"""The vision transformer: one model, whose families are fields.

Sources: ViT (2010.11929); average pooling with its own norm, MAE (2111.06377); each native part of
a published family names its own source below.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from vit_jax_xfer.models.batch_norm import BatchNorm
from vit_jax_xfer.models.collections import resolve_layers
from vit_jax_xfer.models.image_tokens import ImageTokens
from vit_jax_xfer.models.preprocessing import Preprocessing
from vit_jax_xfer.models.protocol import Layers
from vit_jax_xfer.models.transformer.block_design import BlockDesign, layer_norm
from vit_jax_xfer.models.transformer.drop_path import branch_factors
from vit_jax_xfer.models.transformer.patches import (
    ImageSize,
    PatchEmbed,
    check_images,
    for_channels,
    for_patches,
    sides_of,
)
from vit_jax_xfer.models.transformer.pooling import AttentionPool
from vit_jax_xfer.models.transformer.position_tables import fit_tables
from vit_jax_xfer.models.transformer.positions import fit_positions, sincos_2d
from vit_jax_xfer.models.transformer.relative_positions import gather_bias, resize_table, table_rows
from vit_jax_xfer.models.transformer.rotary import make_rotation
from vit_jax_xfer.models.transformer.stack import (
    make_blocks,
    run_and_watch,
    run_blocks,
)
from vit_jax_xfer.models.transformer.token_positions import TokenPositions
from vit_jax_xfer.models.vit_checks import check_vision_transformer

# What an overview tells elsewhere, or not at all: of sizes, and of how a network runs.
_NO_PART = ("image_size", "patch_size", "width", "depth", "num_heads", "mlp_dim", "num_classes")
_NO_PART += ("preprocessing", "class_names", "dtype", "product_dtype")


@flax.struct.dataclass
class ViTOutput:
    """What one forward pass gives.

    tokens (B, T, C) after the final norm, prefix tokens first; pooled (B, C), what the head sees,
    the patches' map (B, h, w, C) with pool="grid", None with "none"; logits (B, K), None without a
    head.
    """

    tokens: jax.Array
    pooled: jax.Array | None
    logits: jax.Array | None

    @property
    def result(self) -> jax.Array:
        """What a call of the network gives: logits, else what a head would see, else tokens."""
        if self.logits is not None:
            return self.logits
        return self.tokens if self.pooled is None else self.pooled


class VisionTransformer(ImageTokens):
    """Images (B, H, W, 3) float32 → logits (B, K), or the pooled features where there is no head.

    `in_channels` may be others than 3. H and W may differ from `image_size`: positions are
    resized to the image's grid.
    """

    collections = ("attention", "qkv", "residual")
    kind = "vision transformer"
    heads = ("head", "distillation_classifier")
    starts_afresh = (
        "norm",
        "head_norm",
        "head_batch_norm",
        "head",
        "representation",
        "distillation_classifier",
        "attention_pool",
        "mask_token",
        "blocks/propagation",
    )

    image_size: ImageSize = 224  # that its tables are for, pixels
    patch_size: int = 16
    width: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int | None = None  # None = 4 · width
    num_classes: int = 1000  # 0 = no head
    pool: str = "cls"  # what the head sees: one of vit_checks.CHOICES, see _pool
    pool_norm: bool | None = None  # norm after pooling and none before (MAE); None = pool == "avg"
    class_token: bool = True
    position: str = "learned"  # learned | sincos (fixed, no parameter) | none
    position_resize: str = "bicubic"  # as publishers do it, see positions.fit_positions
    norm_eps: float = 1e-6
    drop_path: float = 0.0  # chance of the last block's branches; grows linearly from 0
    kernel_init: str = "truncated_normal"  # truncated_normal | xavier_uniform
    head_init_std: float = 0.02  # MAE fine-tunes from 2e-5
    batch_norm: bool = False  # of what the head sees, without scale or bias (MAE's linear probe)

    # Native parts of published families, off by default.
    layer_scale: float | None = None  # a factor a channel on each branch, its start (2103.17239)
    registers: int = 0  # tokens after the class token, mostly without position (2309.16588)
    register_position: bool = False  # True: they too, and all before them (timm's so150m)
    class_position: bool = True  # False: the class token has no position (DeiT III, 2204.07118)
    distillation_token: bool = False  # a second class token with a head of its own (2012.12877)
    distillation_head: bool | None = None  # its head, averaged in; None = if there is the token
    mask_token: bool = False  # stands for masked patches, see `forward` (iBOT, DINOv2; 2304.07193)
    patch_bias: bool = True  # False: patches are projected without one (CLIP, 2103.00020)
    pre_norm: bool = False  # norm before the first block (CLIP)
    activation: str = "gelu"  # gelu | gelu_tanh (SigLIP, 2303.15343) | quick_gelu (OpenAI's CLIP)
    mlp: str = "plain"  # plain | swiglu (2002.05202; DINOv2 giant, DINOv3, EVA-02) | geglu
    mlp_norm: bool = False  # norm of the hidden features (EVA-02 base and large, 2303.11331)
    qkv_bias: str = "full"  # full | no_key (BEiT, EVA-02) | masked_key (DINOv3) | none
    qk_norm: bool = False  # norm of queries and keys, a head at a time (2302.05442)
    attention_norm: bool = False  # norm before the attention's last projection (EVA-02's CLIP)
    # Offsets' bias in the logits: none | block | shared (BEiT) | decomposed (MViTv2, 2112.01526)
    relative_bias: str = "none"
    relative_resize: str = "geometric"  # geometric | bilinear, see relative.resize_table
    rotary: str = "none"  # none | dinov3 | eva02: axial rotary positions, see rotary.py
    rotary_base: float = 100.0  # of the wavelengths: 100 in DINOv3, 10000 in EVA-02
    rotary_grid: int | None = None  # side of the grid that eva02 counts cells on; None = native
    head_bias: bool = True  # False: a projection without one (CLIP)
    pre_logits: bool = False  # a dense layer and tanh before the head (ViT's 21k files, 2010.11929)

    # Parts of detectors' backbones (ViTDet, 2203.16527), off by default.
    window_size: int = 0  # side, in patches, of the windows within which blocks attend; 0 = none
    window_blocks: tuple[int, ...] | None = None  # which; None = as in `windowed`
    conv_blocks: tuple[int, ...] = ()  # after which convolutions carry on across windows
    position_size: ImageSize | None = None  # pixels that pos_embed is for, None = image_size
    final_norm: bool = True  # False: the blocks' tokens are the result

    in_channels: int = 3  # of its images; other than 3 they are the caller's to prepare
    preprocessing: Preprocessing | None = None  # how its images are prepared; travels along
    class_names: tuple[str, ...] | None = None  # of the outputs, in order; travel along

    # Pixels from one patch to the next, None = patch_size; below it patches overlap, on the same
    # weights (2112.05814). Positions, rotations and biases are then those of a larger grid.
    patch_stride: int | None = None
    drop_remainder: bool = False  # leaves out pixels beyond whole patches (SigLIP/14 at 384)
    dtype: Any = jnp.float32  # of activations; parameters, softmax and head stay float32
    product_dtype: Any = None  # of tokens times weights in blocks, see products.py; None = dtype
    attention: str = "auto"  # auto | plain | blockwise | cudnn | splash | tokamax, see kernels.py
    blockwise_above: int | None = None  # tokens above which maps go by blocks, None = kernels.py's
    remat: str = "none"  # none | full | dots
    scan: bool = False  # one compiled block, scanned over layers

    def setup(self) -> None:
        check_vision_transformer(self)
        xavier = self.kernel_init == "xavier_uniform"
        self.patch_embed = PatchEmbed(
            self.width,
            self.patch_size,
            self.patch_bias,
            "xavier_uniform" if xavier else "torch_conv",
            self.dtype,
            self.patch_stride,
        )
        self._setup_tables()
        self.blocks = make_blocks(
            self.depth, self.block_designs(), scan=self.scan, remat=self.remat
        )
        if self.pre_norm:
            self.norm_pre = layer_norm(self.norm_eps, self.dtype)
        if self.norm_after_pool:
            self.head_norm = layer_norm(self.norm_eps, self.dtype)
        elif self.final_norm:
            self.norm = layer_norm(self.norm_eps, self.dtype)
        if self.pool in ("map", "map_patches"):
            self.attention_pool = AttentionPool(self.block_design())
        if self.pre_logits:
            self.representation = nn.Dense(self.width, dtype=self.dtype)
        if self.num_classes:
            if self.batch_norm:
                wide = jnp.promote_types(jnp.float32, self.dtype)
                self.head_batch_norm = BatchNorm(eps=1e-6, affine=False, dtype=wide)
            self.head = self._linear_head()
            if self.has_distillation_head:
                self.distillation_classifier = self._linear_head()

    def _setup_tables(self) -> None:
        """The parameters that are tokens or positions."""
        init = nn.initializers.truncated_normal(0.02)
        if self.class_token:
            self.cls_token = self.param("cls_token", init, (1, 1, self.width))
        if self.distillation_token:
            self.dist_token = self.param("dist_token", init, (1, 1, self.width))
        if self.registers:
            shape = (1, self.registers, self.width)
            self.register_tokens = self.param("register_tokens", init, shape)
        if self.mask_token:
            self.masked = self.param("mask_token", init, (1, 1, self.width))
        if self.position == "learned":
            h, w = self.position_grid
            shape = (1, self.prefix_positions + h * w, self.width)
            self.pos_embed = self.param("pos_embed", init, shape)
        if self.relative_bias == "shared":
            shape = (table_rows(self.grid), self.num_heads)
            self.shared_bias = self.param("relative_bias", init, shape)

    def block_designs(self) -> tuple[BlockDesign, ...]:
        """What each of the blocks is made of."""
        return tuple(
            dataclasses.replace(
                self.block_design(),
                window=self.window_of(i),
                propagation=i in self.conv_blocks,
            )
            for i in range(self.depth)
        )

    def block_design(self) -> BlockDesign:
        """What all of the blocks have in common."""
        return BlockDesign(
            num_heads=self.num_heads,
            mlp_dim=self.mlp_dim or 4 * self.width,
            norm_eps=self.norm_eps,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            product_dtype=self.product_dtype,
            implementation=self.attention,
            blockwise_above=self.blockwise_above,
            qkv_bias=self.qkv_bias,
            qk_norm=self.qk_norm,
            attention_norm=self.attention_norm,
            relative_bias=self.relative_bias,
            relative_resize=self.relative_resize,
            grid=self.grid,
            layer_scale=self.layer_scale,
            activation=self.activation,
            mlp=self.mlp,
            mlp_norm=self.mlp_norm,
        )

    def _linear_head(self) -> nn.Dense:
        """In float32 at least: bfloat16's step is wider than what parts two classes' logits."""
        init = nn.initializers.truncated_normal(self.head_init_std)
        dtype = jnp.promote_types(jnp.float32, self.dtype)
        return nn.Dense(self.num_classes, use_bias=self.head_bias, kernel_init=init, dtype=dtype)

    @property
    def encoder(self) -> "VisionTransformer":
        """Itself."""
        return self

    def summary(self) -> dict[str, str]:
        height, width = sides_of(self.image_size)
        image = f"{height}" if height == width else f"{height}×{width}"
        plain = {name: field.default for name, field in self.keywords().items()}
        native = [
            f"{name}={getattr(self, name)!r}"
            for name, usual in plain.items()
            if name not in _NO_PART and getattr(self, name) != usual
        ]
        rows = {
            "sizes": f"image {image}, patch {self.patch_size}, width {self.width}, depth "
            f"{self.depth}, heads {self.num_heads}, classes {self.num_classes}",
            "native parts": ", ".join(native) or "none, a plain ViT",
        }
        return {**rows, "images": self.preprocessing.pipeline()} if self.preprocessing else rows

    @nn.nowrap
    def adapt(self, source: "VisionTransformer", variables: dict[str, Any]) -> dict[str, Any]:
        params = fit_tables(variables["params"], source, self)
        first = params["patch_embed"]
        kernel = for_channels(first["kernel"], self.in_channels)
        if source.patch_size != self.patch_size:
            kernel = for_patches(kernel, self.patch_size)
        return {**variables, "params": {**params, "patch_embed": {**first, "kernel": kernel}}}

    def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
        return self.forward(images, train).result

    def forward(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> ViTOutput:
        """Every stage of the result. train=True drops branches (rngs={"dropout": key}).

        mask: (B, N) bool, patches that the mask token stands for (needs mask_token=True).
        """
        tokens, keep, place = self.before_blocks(images, train, mask)
        tokens = run_blocks(self.blocks, tokens, self.depth, keep, place)
        return self.after_blocks(tokens, train, self.grid_in(images.shape))

    def feature_maps(
        self, images: jax.Array, train: bool = False, layers: Layers = None
    ) -> tuple[jax.Array, ...]:
        """The patch tokens after each of `layers` (None = the last), normed as the last are."""
        chosen = resolve_layers((-1,) if layers is None else layers, self.depth)
        tokens, keep, place = self.before_blocks(images, train)
        _, streams = run_and_watch(self.blocks, tokens, self.depth, keep, place, chosen)
        grid = self.grid_in(images.shape)
        return tuple(self._map(self._leave(stream), grid) for stream in streams)

    def _map(self, tokens: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """The patches of tokens (B, T, C) where they sit, (B, h, w, C)."""
        patches = tokens[:, self.prefix_tokens :]
        return patches.reshape(patches.shape[0], *grid, patches.shape[-1])

    def before_blocks(
        self, images: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None, TokenPositions | None]:
        """What the blocks start from, as `run_blocks` takes it: tokens, keep, place."""
        tokens, keep = self._enter(self.embed(images, mask), train)
        return tokens, keep, self.placement(self.grid_in(images.shape))

    def after_blocks(
        self, tokens: jax.Array, train: bool = False, grid: tuple[int, int] | None = None
    ) -> ViTOutput:
        """What the network makes of the tokens that come out of its blocks, (B, T, C).

        grid: of the patches, None = the native one.
        """
        tokens = self._leave(tokens)
        pooled = self._map(tokens, grid or self.grid) if self.pool == "grid" else self._pool(tokens)
        logits = None
        if self.num_classes:
            logits = self._classify(tokens, pooled, train)
        return ViTOutput(tokens, pooled, logits)

    def embed(self, images: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Patch tokens with their positions and the prefix tokens before them: (B, T, C)."""
        check_images(images, self.in_channels)
        grid = self.grid_in(images.shape)
        tokens = self.patch_embed(images)
        if mask is not None:
            if not self.mask_token:
                raise ValueError("mask: this network has no mask token; build it with one")
            if mask.shape != tokens.shape[:2]:
                raise ValueError(f"mask: got {mask.shape}, expected {tokens.shape[:2]}, (B, N)")
            tokens = jnp.where(mask[..., None], self.masked.astype(self.dtype), tokens)
        prefix = self._prefix()
        if self.position != "none":
            positions = self.positions(grid).astype(self.dtype)
            rows = positions.shape[1] - grid[0] * grid[1]
            tokens = tokens + positions[:, rows:]
            placed = [prefix[:, :rows] + positions[:, :rows], prefix[:, rows:]]
            prefix = jnp.concatenate(placed, axis=1) if rows else prefix
        prefix = jnp.broadcast_to(prefix, (tokens.shape[0], *prefix.shape[1:]))
        return jnp.concatenate([prefix, tokens], axis=1) if self.prefix_tokens else tokens

    def _prefix(self) -> jax.Array:
        """The tokens that stand before the patches', in their order, (1, P, C)."""
        tokens = [self.cls_token] if self.class_token else []
        tokens += [self.dist_token] if self.distillation_token else []
        tokens += [self.register_tokens] if self.registers else []
        none = jnp.zeros((1, 0, self.width), self.dtype)
        return jnp.concatenate([none, *(token.astype(self.dtype) for token in tokens)], axis=1)

    def positions(self, grid: tuple[int, int]) -> jax.Array:
        """Position embeddings (1, rows + h·w, C) float32 for a grid of patches."""
        if self.position == "sincos":
            step = (self.patch_stride or self.patch_size) / self.patch_size
            return jnp.asarray(sincos_2d(grid, self.width, self.prefix_positions, step))
        return fit_positions(
            self.pos_embed, self.position_grid, grid, self.prefix_positions, self.position_resize
        )

    def placement(self, grid: tuple[int, int]) -> TokenPositions | None:
        """What the blocks need to know of an image's grid; None where they need nothing."""
        plain = self.rotary == "none" and self.relative_bias == "none" and not self.window_size
        if plain and not self.conv_blocks:
            return None
        whole = self._placed(grid, grid)
        if not self.windowed:
            return whole
        return whole.replace(window=self._placed(grid, (self.window_size,) * 2))

    def _placed(self, grid: tuple[int, int], cells: tuple[int, int]) -> TokenPositions:
        """Of the tokens of so many cells (down, across), which are the grid's or a window's."""
        rotation = bias = None
        if self.rotary != "none":
            reference = (self.rotary_grid,) * 2 if self.rotary_grid else self.grid
            rotation = make_rotation(
                self.rotary,
                grid,
                reference,
                self.width // self.num_heads,
                self.rotary_base,
                self.prefix_tokens,
                cells,
            )
        if self.relative_bias == "shared":
            table = resize_table(self.shared_bias, self.grid, grid, self.relative_resize)
            bias = gather_bias(table, grid, self.prefix_tokens, cells)
        return TokenPositions(rotation, bias, grid, self.prefix_tokens, cells)

    def encode(
        self, tokens: jax.Array, train: bool = False, place: TokenPositions | None = None
    ) -> jax.Array:
        """The blocks and the final norm (none with a norm after pooling): (B, T, C) → (B, T, C)."""
        tokens, keep = self._enter(tokens, train)
        return self._leave(run_blocks(self.blocks, tokens, self.depth, keep, place))

    def _enter(self, tokens: jax.Array, train: bool) -> tuple[jax.Array, jax.Array | None]:
        """The first block's tokens, and all blocks' factors of stochastic depth."""
        keep = None
        if train and self.drop_path > 0:
            if not self.has_rng("dropout"):
                raise ValueError("rngs: train=True with drop_path > 0 needs {'dropout': key}")
            key = self.make_rng("dropout")
            keep = branch_factors(key, self.depth, tokens.shape[0], self.drop_path)
        if self.pre_norm:
            tokens = self.norm_pre(tokens)
        return tokens, keep

    def _leave(self, tokens: jax.Array) -> jax.Array:
        return tokens if self.norm_after_pool or not self.final_norm else self.norm(tokens)

    def _pool(self, tokens: jax.Array) -> jax.Array | None:
        """What the head sees, (B, C).

        cls: the class token. avg: the mean of the patch tokens. avg_all: of all tokens (FLIP).
        cls_avg: both, (B, 2C) (DINOv2's linear heads). max_patches: the patch tokens' maximum;
        avg_max: half of that and half of their mean (timm). map: attention pooling (SigLIP);
        map_patches: of the patch tokens alone (timm's so150m). grid: the patches' map, no pooling.
        """
        if self.pool == "none":
            return None
        if self.pool == "cls":
            pooled = tokens[:, 0]
        elif self.pool in ("map", "map_patches"):
            seen = tokens if self.pool == "map" else tokens[:, self.prefix_tokens :]
            pooled = self.attention_pool(seen)
        elif self.pool == "max_patches":
            pooled = _maximum(tokens[:, self.prefix_tokens :])
        else:
            patches = tokens if self.pool == "avg_all" else tokens[:, self.prefix_tokens :]
            pooled = self.mean(patches)
            if self.pool == "cls_avg":
                pooled = jnp.concatenate([tokens[:, 0], pooled], axis=-1)
            elif self.pool == "avg_max":
                pooled = self.average(_maximum(patches), pooled)
        pooled = self.head_norm(pooled) if self.norm_after_pool else pooled
        return self.activate(self.representation(pooled)) if self.pre_logits else pooled

    def _classify(self, tokens: jax.Array, pooled: jax.Array, train: bool) -> jax.Array:
        """Logits (B, K), at least float32; DeiT's are the mean of its two heads'."""
        seen = self.head_batch_norm(pooled, train) if self.batch_norm else pooled
        logits = self.head(seen)
        if self.has_distillation_head:
            second = self.distillation_classifier(tokens[:, int(self.class_token)])
            logits = self.average(logits, second)
        return logits

    # As methods, which an onlooker can replace (collections.py).

    def mean(self, tokens: jax.Array) -> jax.Array:
        """The mean of tokens (B, T, C): over thousands of them it takes more than bf16's digits."""
        return tokens.astype(jnp.float32).mean(axis=1).astype(tokens.dtype)

    def average(self, first: jax.Array, second: jax.Array) -> jax.Array:
        """The mean of two."""
        return (first + second) / 2

    def activate(self, x: jax.Array) -> jax.Array:
        """The activation before the head, of each number alone."""
        return jnp.tanh(x)


def _maximum(tokens: jax.Array) -> jax.Array:
    """The channels' maxima over tokens (B, T, C), (B, C).

    Taken by index: max's own derivative asks which number equals the maximum, which none does where
    a compiler has rounded them differently, and is then no number.
    """
    return jnp.take_along_axis(tokens, tokens.argmax(axis=1)[:, None], axis=1)[:, 0]
