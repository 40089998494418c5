"""What was recognised in a file, in a few lines for a person."""

import os
from typing import Any

import jax

from vit_jax_xfer.models.protocol import Network
from vit_jax_xfer.pretrained.family_entry import Recognised


def overview(
    source: str | os.PathLike[str], model: Network, variables: Any, found: Recognised | None
) -> str:
    """A few lines: family, names, sizes, native parts, preprocessing, what was left out."""
    lines = [f"{source}"]
    if found is None:
        lines.append("  a model of this project")
    else:
        lines.append(_row("family", f"{found.family.name}: {found.family.source}"))
        lines.append(_row("names", found.dialect))
    number = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    lines.append(_row("network", f"{model.kind}, {number / 1e6:.2f} million parameters"))
    lines += [_row(name, text) for name, text in model.summary().items()]
    if found is not None and found.left_out:
        lines.append(_row("left out", ", ".join(found.left_out)))
    return "\n".join(lines)


def _row(name: str, text: str) -> str:
    return f"  {name:<13} {text}"
