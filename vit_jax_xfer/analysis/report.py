"""The report of two networks: markdown with its tables, and all numbers as arrays."""

from collections.abc import Mapping, Sequence

import numpy as np

from vit_jax_xfer.analysis.head_matching import MATCHINGS, matched_divergence
from vit_jax_xfer.analysis.network_pair import NetworkPair, PairFindings

_WORDS = {
    "distance": "distance, patches",
    "entropy": "entropy / log T",
    "class_entropy": "class token's entropy / log T",
    "class_to_patches": "class token on patches",
    "class_to_class": "class token on itself",
    "class_to_others": "class token on other prefix tokens",
    "patches_to_patches": "patches on patches",
    "patches_to_class": "patches on the class token",
    "patches_to_others": "patches on other prefix tokens",
}
_TOKENS = {"mean": "the mean of the patches", "class": "the class token"}


def as_markdown(
    pair: NetworkPair, found: PairFindings, about: Mapping[str, object], pictures: Sequence[str]
) -> str:
    """The report. about: what it was made of, a line each. pictures: files that it shows."""
    first, second = pair.first.name, pair.second.name
    lines = [f"# {first} and {second}", ""]
    lines += [f"* {name}: {value}" for name, value in about.items()]
    lines += ["", "## Heads: Jensen-Shannon divergence, nats", ""]
    lines += [_divergence_words(pair), "", *_divergence_table(found), ""]
    lines += ["## Layers: unbiased linear CKA by batches", ""]
    lines += [*_cka_table(found), "", "## Attention", "", *_statistics_table(pair, found), ""]
    lines += [f"![{name}]({name})" for name in pictures]
    return "\n".join(lines) + "\n"


def arrays(found: PairFindings) -> dict[str, np.ndarray]:
    """All numbers by name, for an .npz; layers and heads counted from 0."""
    numbers = {"divergence": found.divergence, "beside": np.array(found.beside)}
    if found.class_divergence is not None:
        numbers["class_divergence"] = found.class_divergence
    numbers |= {f"cka_{tokens}": matrix for tokens, matrix in found.cka.items()}
    for side, statistics in zip(("first", "second"), found.statistics, strict=True):
        numbers |= {f"{side}_{name}": values for name, values in statistics.items()}
    return numbers


def by_layer(divergence: np.ndarray) -> list[dict[str, float]]:
    """{way of matching: divergence} of each layer, of (N, L, H, H'); identity where H = H'."""
    ways = [
        how for how in MATCHINGS if how != "identity" or divergence.shape[2] == divergence.shape[3]
    ]
    return [
        {how: matched_divergence(divergence[:, layer], how).divergence for how in ways}
        for layer in range(divergence.shape[1])
    ]


def _divergence_words(pair: NetworkPair) -> str:
    words = (
        "The mean over images and queries, log 2 = 0.693 at most; heads matched by their number "
        "(identity), one to one for all images (hungarian) and for each (per_image), and each with "
        "its nearest."
    )
    if pair.copied:
        words += " The second network attends by the first's maps, so that nothing is left here."
    return words


def _divergence_table(found: PairFindings) -> list[str]:
    rows = by_layer(found.divergence)
    columns = list(rows[0])
    own = None if found.class_divergence is None else by_layer(found.class_divergence)
    head = ["layer", *columns, *(["hungarian, class token's row"] if own else [])]
    lines = [_row(head), _rule(len(head))]
    for layer, row in enumerate(rows):
        name = str(layer) if found.beside[layer] == layer else f"{layer} : {found.beside[layer]}"
        last = [own[layer]["hungarian"]] if own else []
        lines.append(_row([name, *map(_number, [*row.values(), *last])]))
    means = [float(np.mean([row[name] for row in rows])) for name in columns]
    means += [float(np.mean([row["hungarian"] for row in own]))] if own else []
    return [*lines, _row(["mean", *map(_number, means)])]


def _cka_table(found: PairFindings) -> list[str]:
    kinds = list(found.cka)
    head = ["layer"]
    for tokens in kinds:
        head += [f"beside, {_TOKENS[tokens]}", "highest of any", "at layer"]
    lines = [_row(head), _rule(len(head))]
    for layer, other in enumerate(found.beside):
        cells = [str(layer) if other == layer else f"{layer} : {other}"]
        for tokens in kinds:
            row = found.cka[tokens][layer]
            cells += [_number(row[other]), _number(row.max()), str(row.argmax())]
        lines.append(_row(cells))
    return lines


def _statistics_table(pair: NetworkPair, found: PairFindings) -> list[str]:
    """Means over images and heads, a column a statistic that either network has, the first's left
    of the second's."""
    names = [name for name in _WORDS if any(name in side for side in found.statistics)]
    head = ["layer"]
    for name in names:
        head += [f"{_WORDS[name]}: {side.name}" for side in (pair.first, pair.second)]
    lines = [_row(head), _rule(len(head))]
    for layer in range(max(side.model.depth for side in (pair.first, pair.second))):
        cells = [str(layer)]
        for name in names:
            for side in found.statistics:
                there = name in side and layer < len(side[name])
                cells.append(_number(side[name][layer].mean()) if there else "")
        lines.append(_row(cells))
    return lines


def _number(value: float) -> str:
    return f"{value:.3f}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _rule(columns: int) -> str:
    return "|---" * columns + "|"
