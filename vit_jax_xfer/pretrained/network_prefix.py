"""Under which prefix a file's network lies, told from the names that only networks have.

Trainers put anything before a network's names: "model.", "module.backbone.", "net.0.". So no table
holds them all. A prefix is what stands before both a dialect's signature and its patch embedding.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vit_jax_xfer.pretrained.lazy_arrays import LazyState, Stored
from vit_jax_xfer.pretrained.loading_notes import note
from vit_jax_xfer.pretrained.networks_in_file import unwrap
from vit_jax_xfer.pretrained.parameter_rules import listed
from vit_jax_xfer.pretrained.read_files import Checkpoint
from vit_jax_xfer.pretrained.rename import Dialect

_PATCHES = ("patch_embed.proj.weight", "embedding/kernel")  # canonical, and Flax's
_AVERAGE = re.compile(r"(?:.*[._])?(?:ema|swa|averaged)(?:[._].*)?")
# What torchmetrics and counters keep beside a network, whatever its size.
_METRIC = re.compile(
    r".*[._](?:tp|fp|tn|fn|confmat|correct|total|count|(?:mean|sum|min|max)_value|value|measures)"
)


def under_its_prefix(checkpoint: Checkpoint, dialects: Iterable[Dialect]) -> Checkpoint:
    """The same without the prefix of the network's names, and without metrics beside them.

    As it is where some name needs no prefix, or none is any network's. ValueError naming the
    prefix where other parameters stand beside it, or where there are several.
    """
    state, where = checkpoint.state, checkpoint.where
    dialects = tuple(dialects)
    if any(dialect.speaks(state) for dialect in dialects):
        return checkpoint
    prefix, averages = _choose(sorted(set(_prefixes(state, dialects)), key=len), where)
    if prefix is None:
        return checkpoint
    outside = [name for name in state if not name.startswith((prefix, *averages))]
    others = [name for name in outside if not _is_counter(name, state.stored[name])]
    if others:
        raise ValueError(
            f"{where}: the network's names have the prefix {prefix!r}, but beside them stand "
            f"{listed(others)}; pass weights={prefix[:-1]!r} to load what has the prefix alone"
        )
    if outside and not averages:
        note(f"{where}: left out beside the prefix {prefix!r}: {listed(outside)}")
    inside = {n.removeprefix(prefix): x for n, x in state.stored.items() if n.startswith(prefix)}
    arrays, left_out = unwrap(inside, None, where)
    left_out = (*checkpoint.left_out, *outside, *(f"{one}*" for one in averages), *left_out)
    return replace(checkpoint, state=LazyState(arrays, where), left_out=left_out)


def _prefixes(state: LazyState, dialects: Iterable[Dialect]) -> Iterator[str]:
    """What stands before a signature, where a patch embedding has the same before it."""
    for dialect in dialects:
        begins = {begin for name in state for begin in dialect.before_signature(name)}
        for begin in begins:
            inside = (n.removeprefix(begin) for n in state if n.startswith(begin))
            if any(dialect.to_canonical(name) in _PATCHES for name in inside):
                yield begin


def _choose(prefixes: list[str], where: str) -> tuple[str | None, list[str]]:
    """The network's prefix, None where there is none, and those of averages of the network."""
    outer = [p for p in prefixes if not any(p != one and p.startswith(one) for one in prefixes)]
    plain = [p for p in outer if not _AVERAGE.fullmatch(p[:-1])]
    if len(outer) > 1 and len(plain) == 1:
        averages = [p for p in outer if p not in plain]
        names = " or ".join(repr(p[:-1]) for p in averages)
        note(f"{where}: takes {plain[0][:-1]}; for its average, pass weights={names}")
        return plain[0], averages
    if len(outer) > 1:
        names = ", ".join(p[:-1] for p in outer)
        raise ValueError(
            f"{where}: holds several networks, under the prefixes {names}; pass one of these as "
            "weights="
        )
    return (outer[0] if outer else None), []


def _is_counter(name: str, stored: Stored) -> bool:
    """Whether an array is a metric's or a counter's: no learned table is whole or of one number."""
    one = all(size == 1 for size in stored.shape)
    whole = stored.dtype.startswith(("int", "uint", "bool"))
    return one or whole or _METRIC.fullmatch(name) is not None
