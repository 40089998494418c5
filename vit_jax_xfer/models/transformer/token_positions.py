"""Where a network's tokens sit in the image: what attention needs beside the tokens themselves."""

import flax.struct
import jax

from vit_jax_xfer.models.transformer.rotary import Rotation


@flax.struct.dataclass
class TokenPositions:
    """The grid of an image's patches, and what follows from it for every block.

    rotation: the rotary angles, None without; bias: (H, T, T) added to every block's scores where
    blocks share one table, None else. grid: of the image's patches. cells: rows and columns of the
    tokens that attend to each other, which in a window are its own. window: the same for blocks
    that attend within windows, None where there are none.
    """

    rotation: Rotation | None
    bias: jax.Array | None
    grid: tuple[int, int] = flax.struct.field(pytree_node=False)
    prefix_tokens: int = flax.struct.field(pytree_node=False)
    cells: tuple[int, int] = flax.struct.field(pytree_node=False)
    window: "TokenPositions | None" = None
