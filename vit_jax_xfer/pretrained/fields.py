"""A model's fields from the shapes in a file, and what the caller says beside them."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vit_jax_xfer.models.patches import grid_of
from vit_jax_xfer.models.positions import resize_positions, sincos_2d


def agree(told: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Both together. ValueError naming a field that the caller gives differently from the file."""
    for name, value in told.items():
        if name in given and given[name] != value:
            raise ValueError(f"{name}: got {given[name]!r}, but the file has {value!r}")
    return {**told, **given}


def heads(field: str, given: int | None, width: int, fallback: int | None) -> int:
    """The number of heads, which no shape tells: the given one, else the fallback.

    ValueError naming the field when there is neither, or when it does not divide the width.
    """
    number = fallback if given is None else given
    if number is None:
        raise ValueError(f"{field}: shapes don't tell it for width {width}; pass {field}=")
    if number < 1 or width % number:
        raise ValueError(f"{field}: {number} does not divide width {width}")
    return number


def shape_of(state: Mapping[str, np.ndarray], name: str, dims: int) -> tuple[int, ...]:
    """The shape of an array that fields are read from. ValueError unless it is there with dims."""
    if name not in state:
        raise ValueError(f"{name}: not in the file, and the model's size is read from it")
    shape = state[name].shape
    if len(shape) != dims:
        raise ValueError(f"{name}: found shape {shape}, wanted {dims} axes")
    return shape


def count_blocks(names: Iterable[str], template: str) -> int:
    """How many blocks there are: one more than the highest number in `template`'s place `{i}`."""
    pattern = re.compile(re.escape(template).replace(r"\{i\}", r"(\d+)"))
    numbers = [int(match[1]) for match in map(pattern.match, names) if match]
    return max(numbers, default=-1) + 1


def stored_grid(
    tokens: int, prefix_tokens: int, image_size: int | tuple[int, int] | None, patch_size: int
) -> tuple[int, int]:
    """The grid (h, w) that a table of `tokens` positions was made for: a square one.

    A table that fits no square is taken for the given image size where that has as many patches.
    ValueError otherwise.
    """
    number = tokens - prefix_tokens
    side = round(max(number, 0) ** 0.5)
    if number > 0 and side * side == number:
        return side, side
    if image_size is not None:
        grid = grid_of(image_size, patch_size)
        if grid[0] * grid[1] == number:
            return grid
    raise ValueError(
        f"pos_embed: {tokens} positions are not {prefix_tokens} and a square grid of patches; "
        "pass the image_size=(height, width) they were made for"
    )


def fit_positions(
    table: np.ndarray,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    prefix_tokens: int,
    resize: str,
) -> np.ndarray:
    """A stored table (1, P + h·w, C) for another grid. resize: the model's `position_resize`."""
    if old_grid == new_grid:
        return table
    antialias = resize == "bicubic_antialias"
    return np.asarray(resize_positions(table, old_grid, new_grid, prefix_tokens, antialias))


def is_sincos(table: np.ndarray) -> bool:
    """Whether (1, 1 + n·n, C) is MAE's fixed table, which never trained and so tells its files."""
    if table.ndim != 3 or table.shape[2] % 4:
        return False
    side = round(max(table.shape[1] - 1, 0) ** 0.5)
    fixed = sincos_2d((side, side), table.shape[2])
    return fixed.shape == table.shape and bool(np.allclose(table, fixed, atol=1e-4))
