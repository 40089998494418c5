"""What a command is going to cost, said before it starts where that is over a minute."""

import time
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp

from vit_jax_xfer.models.multiply_adds import multiply_adds
from vit_jax_xfer.models.transformer.patches import ImageSize
from vit_jax_xfer.terminal import show

_SAID_FROM = 60.0  # seconds
_SIDE = 1024  # of the product by which a machine's speed is told: 50 ms on two cores
# Of a product's speed networks are taken to reach so much; the line says "about".
_REACHED = 0.6
_FEWEST = 16  # passes through a network, below which it isn't traced to count them


def say_cost(work: Iterable[tuple[str, int, int]], items: str = "photographs") -> None:
    """A line on stderr with how long networks will take, where it is over a minute.

    work: (what, photographs, multiply-adds of one) of each network that runs. What is done with
    the features is not in it.
    """
    listed = [(what, number, cost) for what, number, cost in work if number and cost]
    total = sum(number * cost for _, number, cost in listed)
    # Below any device's speed for a minute nothing needs measuring.
    if total < 1e11:
        return
    seconds = total / (_REACHED * _products_a_second())
    if text := cost_text(seconds, sum(number for _, number, _ in listed), total, items):
        show(text, name="stderr")


def say_network_cost(
    model: Any,
    photographs: int,
    size: ImageSize | None = None,
    items: str = "photographs",
    passes: float = 1,
) -> None:
    """The same of a network on photographs of `size`, None = its own; see `multiply_adds`.

    passes: how often each goes through it; a gradient counts as two more. Of a few passes, and of
    what is no network by itself, nothing is said.
    """
    if photographs * passes < _FEWEST or not hasattr(model, "example_inputs"):
        return
    try:
        each = round(passes * multiply_adds(model, size))
    except ValueError:  # of a size that doesn't fit, which the command says
        return
    say_cost([(type(model).__name__, photographs, each)], items)


def cost_text(seconds: float, photographs: int, total: int, items: str) -> str | None:
    """The line, None for what takes less than a minute."""
    if seconds < _SAID_FROM:
        return None
    minutes = round(seconds / 60)
    span = f"{minutes} minute{'s' if minutes > 1 else ''}"
    if minutes >= 120:
        span = f"{seconds / 3600:.1f} hours"
    return (
        f"this takes about {span} on this machine: {photographs:,} {items} through the network, "
        f"{total / 1e12:,.1f} T multiply-adds"
    )


def _products_a_second() -> float:
    """Multiply-adds a second of a product of matrices, of several the fastest."""
    matrix = jnp.ones((_SIDE, _SIDE), jnp.float32)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    found = []
    for _ in range(8):  # others may run beside it
        start = time.monotonic()
        product(matrix, matrix).block_until_ready()
        found.append(time.monotonic() - start)
    return _SIDE**3 / max(min(found), 1e-9)
