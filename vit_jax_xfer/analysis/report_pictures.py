"""The pictures of a report: matrices as colours, the first row on top, and bars with numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vit_jax_xfer.analysis.head_matching import matched_divergence
from vit_jax_xfer.analysis.network_pair import NetworkPair, PairFindings
from vit_jax_xfer.explain.colour_scales import Scale
from vit_jax_xfer.explain.pictures import sheet

_CELL = 240  # pixels of a matrix's side
_SMALL = 120
_COLUMNS = 6  # of small matrices
_SHOWN = {  # of the statistics, with what they are called
    "distance": "distance, patches",
    "entropy": "entropy / log T",
    "class_entropy": "class token's entropy",
    "class_to_patches": "class token on patches",
    "patches_to_class": "patches on class token",
    "patches_to_others": "patches on registers",
}


def write_pictures(folder: Path, pair: NetworkPair, found: PairFindings) -> list[str]:
    """Writes cka.png, divergence.png, heads.png and attention.png; their names."""
    sheets = {
        "cka.png": _cka,
        "divergence.png": _divergence,
        "heads.png": _heads,
        "attention.png": _attention,
    }
    for name, draw in sheets.items():
        draw(folder / name, pair, found)
    return list(sheets)


def _cka(path: Path, pair: NetworkPair, found: PairFindings) -> None:
    names = {"mean": "mean of the patches", "class": "class token"}
    scale = Scale(0.0, 1.0)  # an unbiased estimate below 0 is none
    _draw(
        path,
        [[scale.colours(matrix) for matrix in found.cka.values()]],
        [names[tokens] for tokens in found.cka],
        [[scale]],
        f"CKA of layers   down: {pair.first.name}   across: {pair.second.name}",
    )


def _divergence(path: Path, pair: NetworkPair, found: PairFindings) -> None:
    """Each layer's heads, down and across: how far from its match each of the first's is."""
    ways = ["identity", "hungarian", "nearest"]
    if found.divergence.shape[2] != found.divergence.shape[3]:
        ways.remove("identity")
    mean = found.divergence.mean(0)  # (L, H, H')
    matrices = []
    for how in ways:
        heads = [matched_divergence(layer[None], how).heads for layer in mean]
        matrices.append(np.take_along_axis(mean, np.stack(heads)[..., None], axis=2)[..., 0])
    scale = Scale.of(matrices, signed=False)
    heading = f"divergence, nats   down: layers, across: heads of {pair.first.name}"
    _draw(path, [[scale.colours(x) for x in matrices]], ways, [[scale]], heading)


def _heads(path: Path, pair: NetworkPair, found: PairFindings) -> None:
    """A matrix of all heads' divergence for each layer."""
    mean = found.divergence.mean(0)
    scale = Scale.of([mean], signed=False)
    columns = min(_COLUMNS, len(mean))
    pictures: list[np.ndarray | None] = [scale.colours(layer) for layer in mean]
    captions = []
    for layer, (matrix, other) in enumerate(zip(mean, found.beside, strict=True)):
        place = f"{layer}" if other == layer else f"{layer} : {other}"
        least = matched_divergence(matrix[None], "hungarian").divergence
        captions.append(f"{place}: {least:.3f}")
    missing = -len(pictures) % columns
    pictures, captions = [*pictures, *[None] * missing], [*captions, *[""] * missing]
    rows = range(0, len(pictures), columns)
    sheet(
        [pictures[start : start + columns] for start in rows],
        [""] * columns,
        path,
        cell=_SMALL,
        captions=[captions[start : start + columns] for start in rows],
        bars=[[scale] for _ in rows],
        heading=f"heads of each layer, and the best matching's mean   down: {pair.first.name}   "
        f"across: {pair.second.name}",
        font_size=13,
    )


def _attention(path: Path, pair: NetworkPair, found: PairFindings) -> None:
    """A row a statistic, both networks on one scale; heads from the least to the greatest."""
    rows, bars, titles = [], [], []
    for name, words in _SHOWN.items():
        sides = [side.get(name) for side in found.statistics]
        there = [np.sort(side.mean(1), axis=1) for side in sides if side is not None]
        if not there:
            continue
        scale = Scale.of(there, signed=False)
        drawn = iter(there)
        rows.append([None if side is None else scale.colours(next(drawn)) for side in sides])
        bars.append([scale])
        titles.append(words)
    heading = "down: layers   across: heads, from the least"
    _draw(path, rows, [pair.first.name, pair.second.name], bars, heading, titles)


def _draw(
    path: Path,
    rows: Sequence[Sequence[np.ndarray | None]],
    columns: Sequence[str],
    bars: Sequence[Sequence[Scale]],
    heading: str,
    titles: Sequence[str] | None = None,
) -> None:
    sheet(
        rows,
        columns,
        path,
        cell=_CELL if titles is None else _SMALL,
        row_titles=titles,
        bars=bars,
        heading=heading,
        font_size=13,
    )
