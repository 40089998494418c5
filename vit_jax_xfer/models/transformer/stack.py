"""A stack of blocks: a list of them, or one compiled block scanned over stacked variables."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax

from vit_jax_xfer.models.collections import SCANNED
from vit_jax_xfer.models.devices import platform
from vit_jax_xfer.models.transformer.batch_axes import keep_rows
from vit_jax_xfer.models.transformer.block import Block
from vit_jax_xfer.models.transformer.block_design import BlockDesign
from vit_jax_xfer.models.transformer.token_positions import TokenPositions

REMAT_POLICIES: dict[str, Any] = {
    # keep every activation of a block
    "none": None,
    # keep a block's input alone and compute the block again in the backward pass
    "full": jax.checkpoint_policies.nothing_saveable,
    # keep the results of matrix products, compute the rest again
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def make_blocks(
    depth: int, design: BlockDesign | Sequence[BlockDesign], *, scan: bool, remat: str
) -> Block | list[Block]:
    """`depth` blocks: a list, or the single block that `run_blocks` scans.

    design: of all, or of each; scanned ones are alike.
    """
    designs = [design] * depth if isinstance(design, BlockDesign) else list(design)
    block = Block
    if remat != "none":
        # Under scan nothing can be merged across iterations, so the costly guard is not needed.
        block = nn.remat(Block, policy=REMAT_POLICIES[remat], prevent_cse=not scan)
    return block(designs[0]) if scan else [block(one) for one in designs]


def run_blocks(
    blocks: Block | list[Block],
    tokens: jax.Array,
    depth: int,
    keep: jax.Array | None = None,
    place: TokenPositions | None = None,
) -> jax.Array:
    """Tokens (B, T, C) through all blocks. keep: (depth, 2, B) factors of stochastic depth."""
    return run_and_watch(blocks, tokens, depth, keep, place)[0]


def run_and_watch(
    blocks: Block | list[Block],
    tokens: jax.Array,
    depth: int,
    keep: jax.Array | None = None,
    place: TokenPositions | None = None,
    layers: Sequence[int] = (),
) -> tuple[jax.Array, list[jax.Array]]:
    """As `run_blocks`, and the tokens (B, T, C) after each of `layers` (0 … depth-1)."""
    tokens = boundary(tokens)
    if isinstance(blocks, nn.Module):

        def step(block: Block, carry: jax.Array, factors: Any, place: Any) -> tuple[Any, Any]:
            carry = boundary(block(carry, factors, place))
            return carry, carry if layers else None

        scanned = nn.scan(
            step,
            variable_axes=dict.fromkeys(SCANNED, 0),
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast),
            length=depth,
        )
        tokens, streams = scanned(blocks, tokens, keep, place)
        return tokens, [streams[layer] for layer in layers]
    streams = []
    for i, block in enumerate(blocks):
        tokens = boundary(block(tokens, None if keep is None else keep[i], place))
        streams.append(tokens)
    return tokens, [streams[layer] for layer in layers]


def boundary(tokens: jax.Array) -> jax.Array:
    """The residual stream between two blocks: on its own devices, and computed once.

    XLA's CPU compiler would fuse the stream's additions, from the first block on, into each of
    their many readers: a gradient of depth 12 took 1.7 times as long. `compiler_options` makes it
    mind the barrier; other compilers write the stream out by themselves.
    """
    tokens = keep_rows(tokens)
    return jax.lax.optimization_barrier(tokens) if platform() == "cpu" else tokens
