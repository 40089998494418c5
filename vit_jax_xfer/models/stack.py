"""A stack of blocks: a list of them, or one compiled block scanned over stacked variables."""

from typing import Any

import flax.linen as nn
import jax

from vit_jax_xfer.models.block import Block
from vit_jax_xfer.models.collections import SCANNED
from vit_jax_xfer.models.design import BlockDesign
from vit_jax_xfer.models.placement import Placement
from vit_jax_xfer.models.rows import keep_rows

REMAT_POLICIES: dict[str, Any] = {
    # keep every activation of a block
    "none": None,
    # keep a block's input alone and compute the block again in the backward pass
    "full": jax.checkpoint_policies.nothing_saveable,
    # keep the results of matrix products, compute the rest again
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def make_blocks(depth: int, design: BlockDesign, *, scan: bool, remat: str) -> Block | list[Block]:
    """`depth` blocks of one design: a list, or the single block that `run_blocks` scans."""
    block = Block
    if remat != "none":
        # Under scan nothing can be merged across iterations, so the costly guard is not needed.
        block = nn.remat(Block, policy=REMAT_POLICIES[remat], prevent_cse=not scan)
    return block(design) if scan else [block(design) for _ in range(depth)]


def run_blocks(
    blocks: Block | list[Block],
    tokens: jax.Array,
    depth: int,
    keep: jax.Array | None = None,
    place: Placement | None = None,
) -> jax.Array:
    """Tokens (B, T, C) through all blocks. keep: (depth, 2, B) factors of stochastic depth."""
    tokens = keep_rows(tokens)
    if isinstance(blocks, nn.Module):
        scanned = nn.scan(
            lambda block, carry, factors, place: (keep_rows(block(carry, factors, place)), None),
            variable_axes=dict.fromkeys(SCANNED, 0),
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast),
            length=depth,
        )
        return scanned(blocks, tokens, keep, place)[0]
    for i, block in enumerate(blocks):
        tokens = keep_rows(block(tokens, None if keep is None else keep[i], place))
    return tokens
