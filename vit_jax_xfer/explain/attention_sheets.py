"""Pictures of what one query looks at: a row a block, a column a head, one scale a row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vit_jax_xfer.explain.attention_views import BlockView
from vit_jax_xfer.explain.colour_scales import Scale
from vit_jax_xfer.explain.overlay import Box, paint_colours
from vit_jax_xfer.explain.pictures import sheet, write_png

_TILE = 112  # pixels of a picture's longer side
_TOP = 99.5  # the percentile of a row's shares that is lightest: single patches outshine all others
_DROPPED = np.array((205, 205, 210), np.uint8)


def write_attention_sheet(
    path: Path,
    picture: np.ndarray,
    blocks: Sequence[BlockView],
    heads: Sequence[int],
    prefix_names: Sequence[str],
    heading: str = "",
) -> None:
    """A PNG: the picture, and for each block the mean over all heads, the heads, the registers.

    picture: (H, W, 3) uint8, what the network saw. heads: which to show. A row's colours go from 0
    to the greatest shares in it; below a picture stands how much goes to the tokens before patches.
    Patches that a block dropped are grey.
    """
    longer = max(picture.shape[:2])
    cell = tuple(max(1, round(_TILE * side / longer)) for side in picture.shape[:2])
    first = np.asarray(Image.fromarray(picture).resize(cell[::-1], Image.Resampling.LANCZOS))
    registers = len(blocks[0].registers)
    rows: list[list[np.ndarray | None]] = []
    captions, bars = [], []
    for number, block in enumerate(blocks):
        pictures, texts, scales = _row(block, heads, prefix_names)
        rows.append([first if number == 0 else None, *pictures])
        captions.append(["", *texts])
        bars.append(scales)
    columns = ["as the network saw it", "mean of heads", *(f"head {head}" for head in heads)]
    columns += [f"register {i} looks" for i in range(registers)]
    titles = [block.name for block in blocks]
    sheet(rows, columns, path, cell=cell, row_titles=titles, captions=captions, bars=bars,
          heading=heading)  # fmt: skip


def write_attention_overlay(path: Path, photo: np.ndarray, block: BlockView, box: Box) -> None:
    """The mean over heads over a photograph (H, W, 3) uint8, in its size; what was cut off is dark.

    Nothing is over it where the patch that looks was dropped.
    """
    mean = np.zeros(block.cells.shape) if block.maps is None else block.maps.mean(axis=0)
    shown = block.kept if block.maps is not None else np.zeros(block.cells.shape, bool)
    colours = Scale.of([mean], signed=False, top=_TOP).colours(mean)
    write_png(paint_colours(photo, colours, block.cells, box, shown), path)


def _row(
    block: BlockView, heads: Sequence[int], prefix_names: Sequence[str]
) -> tuple[list[np.ndarray | None], list[str], list[Scale]]:
    """A block's pictures, what stands below each, and their scale."""
    if block.maps is None:
        return [None] * (1 + len(heads)), ["dropped here", *[""] * len(heads)], []
    own = [head for head in heads if head < len(block.maps)]
    missing = len(heads) - len(own)
    shown = [block.maps.mean(axis=0), *block.maps[own]]
    scale = Scale.of([*shown, *block.registers], signed=False, top=_TOP)
    pictures: list[np.ndarray | None] = [_coloured(scale, one, block.kept) for one in shown]
    pictures += [None] * missing + [scale.colours(one) for one in block.registers]
    texts = [_prefix_text(one, prefix_names) for one in [block.prefix.mean(0), *block.prefix[own]]]
    return pictures, texts + [""] * (missing + len(block.registers)), [scale]


def _coloured(scale: Scale, shares: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
    colours = scale.colours(shares)
    return colours if kept is None else np.where(kept[..., None], colours, _DROPPED)


def _prefix_text(shares: np.ndarray, names: Sequence[str]) -> str:
    """How much of a look goes to tokens before the patches: "class 0.12  registers 0.30"."""
    kinds: dict[str, float] = {}
    for share, name in zip(shares, names, strict=True):
        kind = "registers" if name.startswith("register") else name
        kinds[kind] = kinds.get(kind, 0.0) + float(share)
    return "  ".join(f"{kind} {share:.2f}" for kind, share in kinds.items())
