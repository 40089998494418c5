"""What an image becomes in a vision transformer: its tokens, their grids, windows and maps.

All of it follows from the network's fields alone.
"""

from typing import Self

import flax.linen as nn

from vit_jax_xfer.models.collections import resolve_layers
from vit_jax_xfer.models.protocol import Layers, Network
from vit_jax_xfer.models.transformer.patches import grid_of


class ImageTokens(Network):
    """Answers of a VisionTransformer, which has the fields."""

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (down, across) at the native image size."""
        return grid_of(self.image_size, self.patch_size, drop_remainder=self.drop_remainder)

    @property
    def position_grid(self) -> tuple[int, int]:
        """Patches (down, across) that the stored positions are for."""
        size = self.image_size if self.position_size is None else self.position_size
        return grid_of(size, self.patch_size, drop_remainder=self.drop_remainder)

    @property
    def windowed(self) -> tuple[int, ...]:
        """The blocks that attend within windows.

        By default all but four that are evenly spread, the last among them; fewer where there are
        fewer than eight blocks.
        """
        if not self.window_size:
            return ()
        if self.window_blocks is not None:
            return tuple(self.window_blocks)
        parts = max(1, min(4, self.depth // 2))
        last = {(part + 1) * self.depth // parts - 1 for part in range(parts)}
        return tuple(i for i in range(self.depth) if i not in last)

    def window_of(self, block: int) -> int:
        """Side of the windows within which a block attends, in patches; 0 = among all tokens."""
        return self.window_size if block in self.windowed else 0

    @property
    def blocks_alike(self) -> bool:
        return len(set(self.block_designs())) == 1

    @nn.nowrap
    def shallow(self, depth: int) -> Self:
        """The network of the first `depth` blocks, each as it is here."""
        first = {
            "window_blocks": tuple(i for i in self.windowed if i < depth),
            "conv_blocks": tuple(i for i in self.conv_blocks if i < depth),
        }
        differ = self.window_size or self.conv_blocks
        return self.clone(depth=depth, **(first if differ else {}))

    @property
    def class_tokens(self) -> int:
        """Class and distillation tokens, which come first."""
        return int(self.class_token) + int(self.distillation_token)

    @property
    def prefix_tokens(self) -> int:
        """Tokens before the patch tokens: class, distillation, registers."""
        return self.class_tokens + self.registers

    @property
    def prefix_positions(self) -> int:
        """Rows of the position table before those of the patches."""
        if self.register_position:
            return self.prefix_tokens
        return self.class_tokens if self.class_position else 0

    @property
    def map_strides(self) -> tuple[int, ...]:
        return (self.patch_stride or self.patch_size,)

    @property
    def map_widths(self) -> tuple[int, ...]:
        return (self.width,)

    @nn.nowrap
    def map_layout(self, layers: Layers = None) -> tuple[tuple[int, int], ...]:
        number = 1 if layers is None else len(resolve_layers(layers, self.depth))
        return tuple(zip(self.map_strides, self.map_widths, strict=True)) * number

    @nn.nowrap
    def headless(self) -> Self:
        return self.clone(
            num_classes=0,
            class_names=None,
            pool="grid",
            pool_norm=None,
            pre_logits=False,
            batch_norm=False,
            distillation_head=None,
        )

    @property
    def norm_after_pool(self) -> bool:
        """Whether the last norm sits after the pooling rather than before it."""
        return self.pool == "avg" if self.pool_norm is None else self.pool_norm

    @property
    def has_distillation_head(self) -> bool:
        """Whether a second head reads the distillation token."""
        asked = self.distillation_head
        return self.distillation_token and self.num_classes > 0 and asked is not False

    def num_tokens(self, image_shape: tuple[int, ...]) -> int:
        """Tokens that an image (…, H, W, 3) becomes, prefix tokens included."""
        h, w = self.grid_in(image_shape)
        return self.prefix_tokens + h * w

    def grid_in(self, image_shape: tuple[int, ...]) -> tuple[int, int]:
        """Patches (down, across) of an image (…, H, W, 3). ValueError unless they fit."""
        size = tuple(image_shape[-3:-1])
        return grid_of(size, self.patch_size, self.patch_stride, self.drop_remainder)
