"""What a command is going to cost, said before it starts where that is over a minute."""

import time
from collections.abc import Callable, Iterable
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
_FEWEST_PAIRS = 1e9  # of cells that are compared, below which nothing is timed: under a minute
_FEWEST = 16  # passes through a network, below which it isn't traced to count them


def say_cost(
    work: Iterable[tuple[str, int, int]], items: str = "photographs", besides: float = 0.0
) -> None:
    """A line on stderr with how long a command will take, where it is over a minute.

    work: (what, photographs, multiply-adds of one) of each network that runs. besides: seconds of
    what is done with the features (`seconds_of`).
    """
    listed = [(what, number, cost) for what, number, cost in work if number and cost]
    total = sum(number * cost for _, number, cost in listed)
    # Below any device's speed for a minute nothing needs measuring.
    if total < 1e11 and besides < _SAID_FROM:
        return
    seconds = total / (_REACHED * _products_a_second()) + besides
    number = sum(number for _, number, _ in listed)
    if text := cost_text(seconds, number, total, items, besides):
        show(text, name="stderr")


def seconds_of(make: Callable[[], Callable[[], object]], number: int, pairs: float) -> float:
    """About how long an action takes, done so often, by one time after one that may compile.

    make: makes the action. pairs: of cells that one compares. 0.0, and nothing is made, where all
    together are few.
    """
    if number * pairs < _FEWEST_PAIRS:
        return 0.0
    action = make()
    action()
    start = time.monotonic()
    action()
    return number * (time.monotonic() - start)


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


def cost_text(
    seconds: float, photographs: int, total: int, items: str, besides: float = 0.0
) -> str | None:
    """The line, None for what takes less than a minute. besides: of the seconds, the features'."""
    if seconds < _SAID_FROM:
        return None
    text = (
        f"this takes about {_span(seconds)} on this machine: {photographs:,} {items} through the "
        f"network, {total / 1e12:,.1f} T multiply-adds"
    )
    return text + (f", and {_span(besides)} with its features" if besides >= _SAID_FROM else "")


def _span(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 120:
        return f"{seconds / 3600:.1f} hours"
    return f"{minutes} minute{'s' if minutes > 1 else ''}"


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
