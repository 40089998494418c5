"""Which grid of patches a stored table is for, of which a file has only the number of rows.

The caller's image size decides where the table fits it, then that of the folder's configuration,
then the square. The same number may be a square and the class token's row, or a rectangle without
one: such a guess is said.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vit_jax_xfer.models.transformer.patches import sides_of
from vit_jax_xfer.models.transformer.relative_positions import OTHERS, table_rows
from vit_jax_xfer.pretrained.loading_notes import note

Grid = tuple[int, int]
# A rectangle longer than this is no likely reading of a table that a square fits too.
_LIKELY = 2


class Sizes(NamedTuple):
    """Image sizes that somebody said, None where nobody did: pixels, or (height, width).

    given: by the caller. stated: by the folder's configuration, `file`. patch_size: pixels.
    """

    given: Any
    stated: Any
    patch_size: int
    file: str = "config.json"

    def grid(self, size: Any) -> Grid:
        """Whole patches (down, across); a remainder of pixels has none."""
        height, width = sides_of(size)
        return height // self.patch_size, width // self.patch_size

    def fields(self, grid: Grid, size: Any = None) -> dict[str, Any]:
        """The network's fields of a grid, which is that of `size` where somebody said one."""
        height, width = (n * self.patch_size for n in grid) if size is None else sides_of(size)
        fields = {"image_size": height if height == width else (height, width)}
        whole = height % self.patch_size == 0 and width % self.patch_size == 0
        return fields if whole else {**fields, "drop_remainder": True}


def size_of_positions(
    name: str, tokens: int, counts: Sequence[int], sizes: Sizes
) -> tuple[int, dict[str, Any]]:
    """Of a table with so many rows, how many are of prefix tokens, and the fields of its size.

    counts: how many rows may be of prefix tokens, the likelier number first.
    ValueError, with `name`, where the rows are no square and no size that was said fits, or where
    the configuration's contradicts them.
    """
    for size in (sizes.given, sizes.stated):
        for rows in counts if size is not None else ():
            if math.prod(sizes.grid(size)) == tokens - rows:
                if size is sizes.given:
                    _say_if_contradicted(name, sizes)
                return rows, sizes.fields(sizes.grid(size), size)
    if sizes.stated is not None:
        raise ValueError(
            f"{sizes.file}: image_size is {sizes.stated!r}, {_as_grid(sizes.grid(sizes.stated))} "
            f"patches of {sizes.patch_size}, but {name} has {tokens} positions"
        )
    for rows in counts:
        side = math.isqrt(max(tokens - rows, 0))
        if side and side * side == tokens - rows:
            _say_if_other(name, tokens, (side, side), rows, counts, sizes.patch_size)
            return rows, sizes.fields((side, side))
    raise ValueError(
        f"{name}: {tokens} positions are not {counts[0]} and a square grid of patches; pass the "
        "image_size=(height, width) they were made for"
    )


def refuse_doubtful_registers(
    name: str, tokens: int, counts: Sequence[int], registers: int, sizes: Sizes
) -> None:
    """ValueError where the rows are a square of patches both with and without registers' rows.

    counts: as `size_of_positions` takes them, the last with a row for each register.
    """
    if sizes.given is not None or sizes.stated is not None or tokens - counts[-1] < 1:
        return
    fitting = [rows for rows in counts if math.isqrt(tokens - rows) ** 2 == tokens - rows]
    if len(fitting) > 1 and counts[-1] in fitting:
        sides = " or ".join(_as_grid((math.isqrt(tokens - rows),) * 2) for rows in fitting)
        raise ValueError(
            f"{name}: {tokens} positions are {sides} patches, by whether the {registers} register "
            "tokens have positions too; pass the image_size they were made for"
        )


def size_of_offsets(rows: int, sizes: Sizes, index: np.ndarray | None = None) -> dict[str, Any]:
    """The fields of the size that a table of relative positions with so many rows is for.

    index: the rows that the first patch's offsets to all patches have, where the file tells them.
    ValueError where the rows are of no square grid and no size that was said fits.
    """
    for size in (sizes.given, sizes.stated):
        if size is not None and table_rows(sizes.grid(size)) == rows:
            return sizes.fields(sizes.grid(size), size)
    if sizes.stated is not None:
        raise ValueError(
            f"{sizes.file}: image_size is {sizes.stated!r}, {_as_grid(sizes.grid(sizes.stated))} "
            f"patches of {sizes.patch_size}, but relative_position_bias_table has {rows} rows, "
            f"not {table_rows(sizes.grid(sizes.stated))}"
        )
    side = (math.isqrt(max(rows - OTHERS, 0)) + 1) // 2
    for grid in (_indexed_grid(index), (side, side)):
        if grid is not None and table_rows(grid) == rows:
            return sizes.fields(grid)
    raise ValueError(
        f"relative_position_bias_table: {rows} rows fit no square grid of patches; pass the "
        "image_size=(height, width) they were made for"
    )


def _indexed_grid(index: np.ndarray | None) -> Grid | None:
    """The grid of an index of offsets: they fall by one along the first row of patches."""
    if index is None:
        return None
    falls = index[0] - index == np.arange(len(index))
    across = len(index) if falls.all() else int(np.argmin(falls))
    return len(index) // across, across


def _say_if_contradicted(name: str, sizes: Sizes) -> None:
    if sizes.stated is not None and sizes.grid(sizes.stated) != sizes.grid(sizes.given):
        note(
            f"{name}: read as {_as_grid(sizes.grid(sizes.given))} patches, those of image_size="
            f"{sizes.given!r}; {sizes.file} says image_size {sizes.stated!r}"
        )


def _say_if_other(
    name: str, tokens: int, grid: Grid, rows: int, counts: Sequence[int], patch_size: int
) -> None:
    """Says that a square was chosen where a likely rectangle has the same number of rows.

    rows: of prefix tokens in the reading that was chosen, one of `counts`. A class token is one off
    and easily mistaken; two tokens are not.
    """
    others = sum(counts) - rows
    found = _rectangle(tokens - others) if sorted(counts) == [0, 1] else None
    if found is not None:
        size = tuple(n * patch_size for n in found)
        note(
            f"{name}: {tokens} positions are read as {_as_grid(grid)} patches and {rows} of "
            f"prefix tokens; if they are {_as_grid(found)} and {others}, pass image_size={size}, "
            f"or {size[::-1]}"
        )


def _rectangle(patches: int) -> Grid | None:
    """The grid of so many patches that is nearest to a square, where one is likely at all."""
    for down in range(math.isqrt(max(patches, 0)), 0, -1):
        if patches % down == 0:
            across = patches // down
            return (down, across) if across <= _LIKELY * down and down > 1 else None
    return None


def _as_grid(grid: Sequence[int]) -> str:
    return "×".join(map(str, grid))
