"""What the rotary tables in a file tell: no parameters, but how its network turns queries and keys.

Meta's files of DINOv3 have the wavelengths (`rope_embed.periods`), BAAI's of EVA-02 the cosines of
all angles (`rope.freqs_cos`); timm's and transformers' have neither.
"""

import math

import numpy as np

from vit_jax_xfer.models.transformer.rotary import rotary_angles
from vit_jax_xfer.pretrained.lazy_arrays import LazyState

_PERIODS = "rope_embed.periods"
_COSINES = ("rope.freqs_cos", "blocks.0.attn.rope.freqs_cos")
# As published.
DINOV3_BASE = 100.0
EVA02_BASE, EVA02_GRID = 10000.0, 16
_ROUNDED = 1e-2  # what bfloat16 makes of a number of 1


def stored_head_width(state: LazyState) -> int | None:
    """Channels of a head; None where the file has no such table."""
    if _PERIODS in state:
        return 4 * math.prod(state.shape(_PERIODS))
    table = _cosines(state)
    return None if table is None else table.shape[1]


def stored_base(state: LazyState) -> float | None:
    """The base of DINOv3's wavelengths; None where nothing tells it.

    They begin with 1 and grow geometrically towards the base.
    """
    periods = _periods(state)
    if periods is None or len(periods) < 2 or periods.min() <= 0:
        return None
    steps = np.arange(len(periods)) / len(periods)
    found = float(f"{periods[-1] ** (1 / steps[-1]):.5g}")
    bases = (base for base in (DINOV3_BASE, found) if np.allclose(periods, base**steps, _ROUNDED))
    return next(bases, None)


def stored_grid(state: LazyState) -> int | None:
    """The side of the grid on which EVA-02 counts cells; None where nothing tells it."""
    table = _cosines(state)
    if table is None:
        return None
    side = math.isqrt(len(table))
    if side * side != len(table) or table.shape[1] % 4 or not np.isfinite(table).all():
        return None
    # The second cell's column turns its first channels by one step.
    step = math.acos(min(max(table[min(1, side - 1), table.shape[1] // 2], -1), 1))
    grids = (EVA02_GRID, max(round(side * step), 1))
    return next((grid for grid in grids if _counts_on(table, side, grid)), None)


def unknown_table(state: LazyState) -> str | None:
    """The name of a table whose angles no network here turns by; None where there is none."""
    if _PERIODS in state and stored_base(state) is None:
        return _PERIODS
    name = next((one for one in _COSINES if one in state), None)
    return None if name is None or stored_grid(state) is not None else name


def _periods(state: LazyState) -> np.ndarray | None:
    if _PERIODS not in state:
        return None
    return np.asarray(state[_PERIODS], np.float64).reshape(-1)


def _cosines(state: LazyState) -> np.ndarray | None:
    name = next((one for one in _COSINES if one in state), None)
    return None if name is None or len(state.shape(name)) != 2 else state[name]


def _counts_on(table: np.ndarray, side: int, grid: int) -> bool:
    angles = rotary_angles("eva02", (side,) * 2, (grid,) * 2, table.shape[1], EVA02_BASE)
    return np.allclose(table, np.cos(angles), atol=_ROUNDED)
