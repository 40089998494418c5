"""Position embeddings: the fixed sine-cosine table, and stored ones resized to another grid.

Sources: MAE (2111.06377) for the table; PyTorch's bicubic interpolation for the resizing.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np


def sincos_2d(
    grid: tuple[int, int], width: int, prefix_tokens: int = 1, step: float = 1.0
) -> np.ndarray:
    """MAE's fixed table for a grid (h, w): (1, prefix_tokens + h·w, width) float32.

    The first half of the channels codes the column, the second half the row; each half is sines,
    then cosines, of wavelengths growing geometrically to 10000·2π. Prefix tokens get zeros.
    step: patches from one cell to the next, below 1 where patches overlap.
    ValueError unless 4 divides width.
    """
    if width % 4:
        raise ValueError(f"width: {width} is not a multiple of 4")
    rows, columns = np.meshgrid(*(step * np.arange(n) for n in grid), indexing="ij")
    frequencies = 10000.0 ** -(np.arange(width // 4) / (width // 4))
    halves = []
    for coordinate in (columns, rows):
        angles = coordinate.reshape(-1, 1) * frequencies
        halves += [np.sin(angles), np.cos(angles)]
    table = np.concatenate(halves, axis=1)
    table = np.concatenate([np.zeros((prefix_tokens, width)), table])
    return table[None].astype(np.float32)


def resize_positions(
    positions: jax.Array | np.ndarray,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    prefix_tokens: int = 1,
    antialias: bool = False,
    scale: tuple[float, float] | None = None,
    weights: Callable[[int, int], np.ndarray] | None = None,
) -> jax.Array | np.ndarray:
    """Bicubic resizing of (1, P + h·w, C) to (1, P + h2·w2, C) float32; the P prefix rows stay.

    A numpy table gives a numpy one: what is read from a file stays on the host.

    Equals torch's interpolate(mode="bicubic", align_corners=False) with the same antialias.
    scale: its `scale_factor` (down, across) where the publisher passes one that is not exactly
    new/old (DINO's n + 0.1), since it moves the sampling points; None = new/old.
    weights: another interpolation, (old, new) → matrix (new, old), in place of the bicubic one.
    ValueError when positions do not have P + h·w tokens.
    """
    (old_h, old_w), (new_h, new_w) = old_grid, new_grid
    if positions.ndim != 3 or positions.shape[1] != prefix_tokens + old_h * old_w:
        raise ValueError(
            f"positions: got shape {tuple(positions.shape)}, expected "
            f"(1, {prefix_tokens} + {old_h}·{old_w}, width)"
        )
    xp = np if isinstance(positions, np.ndarray) else jnp
    positions = xp.asarray(positions, xp.float32)
    prefix, table = positions[:, :prefix_tokens], positions[:, prefix_tokens:]
    if weights is None:
        down, across = scale or (new_h / old_h, new_w / old_w)
        rows = resize_weights(old_h, new_h, down, antialias)
        columns = resize_weights(old_w, new_w, across, antialias)
    else:
        rows, columns = weights(old_h, new_h), weights(old_w, new_w)
    table = product(
        "ih,jw,bhwc->bijc", rows, columns, table.reshape(table.shape[0], old_h, old_w, -1)
    )
    return xp.concatenate([prefix, table.reshape(table.shape[0], new_h * new_w, -1)], axis=1)


def product(equation: str, *arrays: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """An exact einsum; on the host, and a numpy array, where all arrays are numpy's."""
    if all(isinstance(array, np.ndarray) for array in arrays):
        return np.einsum(equation, *arrays, optimize=True)
    return jnp.einsum(equation, *arrays, precision=jax.lax.Precision.HIGHEST)


# How publishers fit a stored table to another grid.
RESIZES: tuple[str, ...] = (
    "bicubic",
    "bicubic_antialias",
    "bicubic_offset",
    "bicubic_corners",
    "bilinear_corners",
)


def fit_positions(
    positions: jax.Array | np.ndarray,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    prefix_tokens: int,
    how: str,
) -> jax.Array | np.ndarray:
    """A stored table (1, P + h·w, C) on another grid, float32, as its publisher does it.

    how: "bicubic" and "bicubic_antialias", PyTorch's interpolate; "bicubic_offset", the same
    without antialias at a scale of (n + 0.1) / n_old (DINO, iBOT, DINOv2 without registers);
    "bilinear_corners", corner cells on corner cells (the JAX ViT and big_vision), and
    "bicubic_corners", PyTorch's align_corners (torchvision).
    """
    if tuple(old_grid) == tuple(new_grid):
        xp = np if isinstance(positions, np.ndarray) else jnp
        return xp.asarray(positions, xp.float32)
    if how in _CORNERS:
        weights = _CORNERS[how]
        return resize_positions(positions, old_grid, new_grid, prefix_tokens, weights=weights)
    scale = None
    if how == "bicubic_offset":
        scale = tuple((new + 0.1) / old for new, old in zip(new_grid, old_grid, strict=True))
    antialias = how == "bicubic_antialias"
    return resize_positions(positions, old_grid, new_grid, prefix_tokens, antialias, scale)


def _linear_corners(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) float32 of linear interpolation from first cell to last."""
    places = np.linspace(0, old - 1, new)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old))).astype(np.float32)


def _cubic_corners(old: int, new: int) -> np.ndarray:
    """The same of bicubic interpolation."""
    rows = [_four_taps(place, old) for place in np.linspace(0, old - 1, new)]
    return np.stack(rows).astype(np.float32)


_CORNERS = {"bilinear_corners": _linear_corners, "bicubic_corners": _cubic_corners}


def resize_weights(old: int, new: int, scale: float, antialias: bool) -> np.ndarray:
    """The matrix (new, old) float32 that resamples one axis bicubically."""
    step = 1.0 / scale  # old cells a new cell
    rows = _antialiased_row if antialias else _plain_row
    return np.stack([rows(i, old, step) for i in range(new)]).astype(np.float32)


def _plain_row(i: int, old: int, step: float) -> np.ndarray:
    """The sampling point is the centre of the new cell."""
    return _four_taps((i + 0.5) * step - 0.5, old)


def _four_taps(centre: float, old: int) -> np.ndarray:
    """Four taps around the sampling point; taps outside the axis fall on its border cell."""
    first = math.floor(centre) - 1
    row = np.zeros(old)
    for tap in range(first, first + 4):
        row[min(max(tap, 0), old - 1)] += _cubic(centre - tap, -0.75)
    return row


def _antialiased_row(i: int, old: int, step: float) -> np.ndarray:
    """The kernel widened to the new cell when shrinking; taps outside the axis are left out."""
    stretch = max(step, 1.0)
    centre = (i + 0.5) * step
    first = max(int(centre - 2 * stretch + 0.5), 0)
    last = min(int(centre + 2 * stretch + 0.5), old)
    row = np.zeros(old)
    for tap in range(first, last):
        row[tap] = _cubic((tap - centre + 0.5) / stretch, -0.5)
    return row / row.sum()


def _cubic(x: float, a: float) -> float:
    """Keys' cubic convolution kernel. PyTorch takes a = -0.75, and -0.5 when it antialiases."""
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    if x < 2:
        return ((x - 5) * x + 8) * x * a - 4 * a
    return 0.0
